"""The weights that `init.published` stands for: of the run that was published when this one began."""

from __future__ import annotations

from pathlib import Path

from kronos_trainer.config import RunConfig, RunPaths, StageName, WarmStart
from kronos_trainer.errors import InputMissing
from kronos_trainer.model.directory import weights_digest


def is_warm(run: RunConfig) -> bool:
    """Whether any stage starts from what the model has published."""
    return any(config.init.published for config in run.weights_stages().values())


def published_weights(run: RunConfig, paths: RunPaths, stage: StageName) -> tuple[Path, str]:
    """The directory of a stage's published weights, and the words for where they come from.

    Raises InputMissing where nothing is published, or the files are not those that were.
    """
    start = start_of(run, paths, stage)
    directory = RunPaths(paths.root, run.model, start.run).stage(stage).best
    if weights_digest(directory) != start.digests[stage]:
        raise InputMissing(
            f"{directory} does not contain the weights published by run {start.run}; restore the files, or set others "
            f"in {stage}.init"
        )
    return directory, f"published:{start.run}@{start.digests[stage][:12]}"


def start_of(run: RunConfig, paths: RunPaths, stage: StageName) -> WarmStart:
    """The run that `init.published` of a stage stands for. Raises InputMissing where nothing is published."""
    if run.warm_start is not None:
        return run.warm_start
    try:
        return WarmStart.published(paths.current.read_text())
    except FileNotFoundError:
        raise InputMissing(nothing_published(run.model.name, stage)) from None
    except (ValueError, KeyError, TypeError):
        raise InputMissing(
            f"{paths.current}: damaged; publish a run again with `kronos promote {run.model.name} RUN`"
        ) from None


def nothing_published(model: str, stage: StageName) -> str:
    """What to tell a user whose model has no published run yet."""
    return (
        f"{stage}.init.published: model {model} has not published weights yet; train it once from other weights: "
        f"set {stage}.init.hub, .path or .scratch"
    )
