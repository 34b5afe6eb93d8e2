"""A model by its name or its directories -> a forecaster. For notebooks, as `kronos_trainer.load`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kronos_trainer.commands import MAX_CONTEXT
from kronos_trainer.errors import ConfigError
from kronos_trainer.forecast.published import Weights, published_weights, weights_below

if TYPE_CHECKING:
    from kronos_trainer.forecast.forecaster import Forecaster


def load(
    model: str | os.PathLike[str],
    predictor: str | os.PathLike[str] | None = None,
    *,
    run: str | None = None,
    namespace: str | None = None,
    root: str | os.PathLike[str] | None = None,
    max_context: int | None = None,
    device: str = "auto",
) -> Forecaster:
    """A model that is ready to forecast.

    `model` is the name of a published model (below `root`, by default $KRONOS_OUTPUT_PATH or outputs; with its
    `namespace` if several have one of this name), or the directory of a model or of one of its runs, or that of a
    tokenizer's weights where `predictor` is that of a predictor's. `run` is one of a named model's runs: an id,
    "published" (the default), "previous", or "candidate", which was judged last and held. `max_context` in bars: by
    default the model's. `device` is auto, cpu, cuda or cuda:N.

    Raises errors of `kronos_trainer.errors`: InputMissing where there is no such model, ConfigError, BadEnvironment.
    """
    root = Path(root or os.environ.get("KRONOS_OUTPUT_PATH", "outputs"))
    if run is not None and (predictor is not None or _is_directory(root, model)):
        raise ConfigError("run names a run of a model: pass the model's name, or the directory of that run alone")
    if predictor is not None:
        weights = Weights(tokenizer=Path(model), predictor=Path(predictor))
    elif _is_directory(root, model):
        weights = weights_below(Path(model))
    else:
        weights = published_weights(root, namespace, os.fspath(model), run)
    weights.require()
    from kronos_trainer.forecast.nets import forecaster_of

    trained = weights.window.max_context if weights.window else MAX_CONTEXT
    return forecaster_of(weights, max_context=max_context or trained, device=device)


def _is_directory(root: Path, model: str | os.PathLike[str]) -> bool:
    if isinstance(model, os.PathLike) or os.sep in model:
        return True
    return Path(model).is_dir() and not any((root / "models").glob(f"*/{model}/current.json"))
