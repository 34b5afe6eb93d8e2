"""Forecasting with a trained tokenizer and predictor. `python -m kronos_trainer.forecast` is the command."""

from kronos_trainer.forecast.forecaster import Forecaster
from kronos_trainer.forecast.future import infer_future
from kronos_trainer.forecast.sampling import Sampling

__all__ = ["Forecaster", "Sampling", "infer_future"]
