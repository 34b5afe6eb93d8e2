"""Weights on disk -> nets on a device. Called by the command and by `load`."""

from __future__ import annotations

import torch

from kronos_trainer.errors import BadEnvironment
from kronos_trainer.forecast.forecaster import Forecaster
from kronos_trainer.forecast.published import Weights
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.weights import load_net


def forecaster_of(weights: Weights, *, max_context: int, device: str) -> Forecaster:
    """Loads both nets; `device` is auto, cpu, cuda or cuda:N.

    Raises InputMissing and ConfigError for weights, BadEnvironment for a device that is not there.
    """
    found = _device(device)
    return Forecaster(
        load_net(TOKENIZER, weights.tokenizer),
        load_net(PREDICTOR, weights.predictor),
        max_context=max_context,
        clip=weights.reading.clip,
        device=found,
        timeframe=weights.timeframe,
        window=weights.window,
        time_zone=weights.reading.time_zone,
        calendar=weights.reading.calendar,
        label=weights.reading.label,
        adjust=weights.reading.adjust,
        run=weights.run,
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadEnvironment(
            f"--device {name}: {torch.cuda.device_count()} CUDA device(s) are usable here; use --device cpu, or see "
            "`kronos doctor`"
        )
    return device
