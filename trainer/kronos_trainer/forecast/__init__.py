"""Forecasting with a trained tokenizer and predictor. `python -m kronos_trainer.forecast` is the command."""
