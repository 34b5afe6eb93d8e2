"""Finds the weights that a run left, and how they were trained. Called by the forecast command and by notebooks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kronos_trainer.config import ModelRef, RunConfig, RunPaths, StageName, Timeframe, Window
from kronos_trainer.errors import ConfigError, InputMissing
from kronos_trainer.forecast.calibration import calibration_of
from kronos_trainer.model.directory import CONFIG, WEIGHTS, present
from kronos_trainer.storage.models import model_of
from kronos_trainer.storage.pointers import Alias, instead, resolve
from kronos_trainer.storage.reading import Reading

_RUN = "run.json"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Directories of a tokenizer and its predictor, and what is known of how they were trained."""

    tokenizer: Path
    predictor: Path
    timeframe: Timeframe | None = None
    window: Window | None = None
    reading: Reading = field(default_factory=Reading)
    run: Path | None = None
    """Directory of their run, or of its copy; None for two directories that were named one by one."""

    @property
    def calibration(self) -> Path | None:
        """calibration.json of their run, if its evaluation left one."""
        return calibration_of(self.run)

    def require(self) -> None:
        """Raises InputMissing, naming the first file that is absent."""
        for directory in (self.tokenizer, self.predictor):
            for name in (CONFIG, WEIGHTS):
                present(directory, name)


def published_weights(root: Path, namespace: str | None, name: str, run: str | None = None) -> Weights:
    """What `current.json` of a model names, or the weights of another `run`: an id or an alias of storage.pointers.

    Without a namespace, of the only model below `root` of this name. Raises ConfigError for an impossible name or one
    that several namespaces have, InputMissing otherwise.
    """
    model = model_of(namespace, name)
    if namespace is None:
        model = ModelRef(namespace=_only_namespace(root, name), name=name)
    paths = RunPaths(root, model, run="")
    if run not in (None, Alias.PUBLISHED) and paths.model_dir.is_dir():
        return weights_below(paths.runs / resolve(paths, run))
    if not paths.current.is_file():
        others = sorted(file.parent.name for file in (root / "models" / model.namespace).glob("*/current.json"))
        hint = f"published there: {', '.join(others)}" if others else f"no model of namespace {model.namespace} is"
        raise InputMissing(
            f"model {name} is not published ({paths.current} is absent); {hint}; {instead(paths)}, or set another "
            "--root"
        )
    return _current(paths.current)


def _only_namespace(root: Path, name: str) -> str:
    """The namespace that has a model of this name; those where it is published come first."""
    found = sorted(place.parent for place in (root / "models").glob(f"*/{name}"))
    found = [place for place in found if (place / name / "current.json").is_file()] or found
    names = [place.name for place in found]
    if len(names) > 1:
        raise ConfigError(f"model {name} is published in {' and '.join(names)}: set --namespace")
    return names[0] if names else "default"


def weights_below(directory: Path) -> Weights:
    """The weights in the directory of a model (with current.json) or of one of its runs.

    Raises InputMissing where there are none.
    """
    if (directory / "current.json").is_file():
        return _current(directory / "current.json")
    stages = {stage: directory / stage.value for stage in (StageName.TOKENIZER, StageName.PREDICTOR)}
    if not all(stage.is_dir() for stage in stages.values()):
        raise InputMissing(
            f"{directory}: neither a model (with current.json) nor a run (with tokenizer/ and predictor/) found; pass "
            "the directories of tokenizer and predictor weights instead"
        )
    best = {stage: part / "best" if (part / "best").is_dir() else part for stage, part in stages.items()}
    tokenizer, predictor = best[StageName.TOKENIZER], best[StageName.PREDICTOR]
    written = stages[StageName.PREDICTOR] / _RUN
    if not written.is_file():
        return Weights(tokenizer=tokenizer, predictor=predictor, run=directory)
    try:
        run = RunConfig.model_validate_json(written.read_text())
    except ValueError as error:
        raise InputMissing(f"{written}: damaged ({error}); use the model, or another run") from None
    return Weights(
        tokenizer=tokenizer,
        predictor=predictor,
        timeframe=run.timeframe,
        window=run.window,
        reading=Reading.of(run.data),
        run=directory,
    )


def _current(file: Path) -> Weights:
    try:
        current: dict[str, Any] = json.loads(file.read_text())
    except ValueError as error:
        raise InputMissing(f"{file}: damaged, not JSON ({error}); publish a run again with `kronos promote`") from None
    return Weights(
        tokenizer=file.parent / current["tokenizer"]["path"],
        predictor=file.parent / current["predictor"]["path"],
        timeframe=Timeframe(current["timeframe"]),
        window=Window.model_validate(current["window"]),
        reading=Reading.model_validate(current["data"]),
        run=file.parent / "runs" / current["run"],
    )
