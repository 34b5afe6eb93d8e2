"""What weights may have seen: a verdict on bars that they know is not out of sample."""

from __future__ import annotations

from collections.abc import Mapping

from kronos_trainer.config import Evaluation, RunConfig, RunPaths, StageName, StageResult
from kronos_trainer.storage.warm_start import start_of

UNKNOWN = "unknown"
# First day that weights of a hub owner have certainly not seen. NeoQuasar: the paper says "to June 2024".
_KNOWN_OWNERS: Mapping[str, str] = {"NeoQuasar": "2024-07-01"}


def pretrained_until(run: RunConfig, paths: RunPaths, stage: StageName) -> str:
    """First day that a stage's initial weights have certainly not seen: `unknown`, or empty for random ones.

    Weights that an earlier run has published have seen its initial weights' days, and its own up to the end of its
    validation. Raises InputMissing where none has.
    """
    init = run.weights_stages()[stage].init
    if init.scratch is not None:
        return ""
    if init.published:
        start = start_of(run, paths, stage)
        return seen_until(RunPaths(paths.root, run.model, start.run).stage(stage).completed())
    evaluation = run.settings(Evaluation)
    if evaluation is not None and evaluation.pretrained_until is not None:
        return evaluation.pretrained_until
    return UNKNOWN if init.hub is None else _KNOWN_OWNERS.get(init.hub.repo.split("/")[0], UNKNOWN)


def seen_until(result: StageResult | None) -> str:
    """First day that the weights of a stage have certainly not seen, of the training too; `unknown` is possible."""
    if result is None or result.pretrained_until == UNKNOWN:
        return UNKNOWN
    if not result.epochs:
        return result.pretrained_until
    own = None if result.data is None else result.data.spans.get("validation")
    return UNKNOWN if own is None else latest(result.pretrained_until, own[1])


def latest(*days: str) -> str:
    """The latest of days and instants in ISO 8601; `unknown` if one is. Empty ones come before all others."""
    return UNKNOWN if UNKNOWN in days else max(days, default="")
