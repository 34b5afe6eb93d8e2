"""What keeps a model from being run on this machine, so far as it shows without reading bars and weights."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kronos_operator.local.settings import LocalSettings
from kronos_operator.names import DATA_PATH_ENV
from kronos_operator.sources import full_path
from kronos_trainer.config import ExitCode, RunPaths, StageName, bar_files_below

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded

WEIGHT_FILES = ("config.json", "model.safetensors")
SAMPLES = (("bars", "us", "daily"), ("bars", "fx", "eurusd"))  # what `kronos data sample` writes


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a run would end before it starts. `field` is a leaf of the spec, by its path."""

    exit_code: ExitCode
    field: str
    fault: str
    way_out: str

    def __str__(self) -> str:
        return f"spec.{self.field}: {self.fault}; {self.way_out}"


def refusals(loaded: Loaded, settings: LocalSettings) -> Iterator[Refusal]:
    """Everything that keeps the model from running here. What a URI or a hub names is not looked up."""
    spec = loaded.model.spec
    if not any(spec.runs(stage) for stage in StageName):
        yield Refusal(
            exit_code=ExitCode.CONFIG,
            field=f"{list(spec.weights_stages())[-1]}.epochs",
            fault="both stages have epochs 0: there is nothing to train",
            way_out="set the epochs of one",
        )
    claim = spec.data.source.claim
    if spec.data.source.uri is None:
        bars = Path(settings.bars(loaded))
        fault = bars_fault(bars)
        if fault:
            field = "data.source.path" if claim is None else "data.source.claim.name"
            called = str(bars) if claim is None else f"{bars} (claim {claim.name} on this machine)"
            yield Refusal(
                exit_code=ExitCode.INPUT_MISSING,
                field=field,
                fault=f"{called} {fault}",
                way_out=_way_out(loaded, settings, bars),
            )
    for stage, config in spec.weights_stages().items():
        if config.init.published and not _published(loaded, settings):
            yield Refusal(
                exit_code=ExitCode.INPUT_MISSING,
                field=f"{stage}.init.published",
                fault=f"{loaded.model.metadata.name} has published nothing yet",
                way_out=f"train it once from other weights, e.g. with --set {stage}.init.hub.repo=OWNER/NAME or "
                f"--set {stage}.init.scratch.size=tiny",
            )
        path = weights_path(loaded, stage)
        lacking = [name for name in WEIGHT_FILES if path is not None and not (path / name).is_file()]
        if lacking:
            yield Refusal(
                exit_code=ExitCode.INPUT_MISSING,
                field=f"{stage}.init.path",
                fault=f"{path} has no {' and no '.join(lacking)}",
                way_out="name the best/ directory of a stage, or one that `hf download REPO --local-dir DIR` wrote",
            )


def _published(loaded: Loaded, settings: LocalSettings) -> bool:
    model = loaded.model
    return RunPaths(settings.root(model.spec), model.ref, "none").current.exists()


def bars_fault(bars: Path) -> str:
    """What is wrong with a path of bars, or nothing."""
    try:
        bars.stat()
        if bars.is_dir() and not bar_files_below(bars):
            return "contains no bar files"
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read: {(error.strerror or str(error)).lower()}"
    return ""


def weights_path(loaded: Loaded, stage: StageName) -> Path | None:
    """The directory of a stage's first weights, where they are given by path."""
    config = loaded.model.spec.weights_stages().get(stage)
    path = None if config is None else config.init.path
    return None if path is None else full_path(path, loaded.base_of(f"{stage}.init.path"))


def sample_command(bars: Path) -> str:
    """The command that writes sample bars to this path, or nothing where it writes none."""
    for sample in SAMPLES:
        if bars.parts[-len(sample) :] == sample:
            root = bars.parents[len(sample) - 1]
            here = root.relative_to(Path.cwd()) if root.is_relative_to(Path.cwd()) else root
            return f"kronos data sample --out {shlex.quote(str(here))}"
    return ""


def _way_out(loaded: Loaded, settings: LocalSettings, bars: Path) -> str:
    source = loaded.model.spec.data.source
    sample = sample_command(bars)
    or_sample = f"; for sample bars: {sample}" if sample else ""
    if source.claim is not None:
        now = "" if settings.data is None else f" (now {settings.data})"
        directory = f"the directory that has {source.claim.name}/ in it"
        return f"put the bars there, or set {DATA_PATH_ENV}{now} to {directory}{or_sample}"
    path = Path(source.path or "")
    if path.is_absolute():
        return f"put the bars there, or correct the path{or_sample}"
    named = loaded.base_of("data.source.path")
    base = settings.data or named
    start = f"a relative path is resolved against {named}"
    if settings.data is not None:
        start = f"relative paths are resolved against {DATA_PATH_ENV}={settings.data}"
    for place in (named, Path.cwd()):
        if (place / path).exists():
            there, other = full_path(str(path), place), os.path.relpath(place / path, base)
            return f"{start}; {there} exists: write path: {other}, or set {DATA_PATH_ENV} to {place}"
    return f"{start}: put the bars there, or correct the path{or_sample}"
