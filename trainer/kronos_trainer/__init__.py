"""Kronos models for one timeframe each: finetuned, judged, and ready to forecast.

    from kronos_trainer import load

    model = load("model-b-1d")
    forecast = model.forecast(bars, horizon=15, quantiles=[0.05, 0.5, 0.95])
    model.evaluation.comparisons       # a DataFrame
    model.report()                     # its page, in a notebook

Failures are subclasses of `kronos_trainer.errors.TrainerError`. Importing this costs neither torch nor pandas: they are
imported when something of it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kronos_trainer.forecast.forecaster import Forecaster
    from kronos_trainer.forecast.future import infer_future
    from kronos_trainer.forecast.loading import load
    from kronos_trainer.forecast.sampling import Sampling

__all__ = ["Forecaster", "Sampling", "infer_future", "load"]

_HOMES = {"Forecaster": "forecaster", "Sampling": "sampling", "infer_future": "future", "load": "loading"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"kronos_trainer.forecast.{_HOMES[name]}"), name)
