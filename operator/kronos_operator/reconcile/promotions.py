"""What status says of a promotion or rollback that was answered, and of the run that it has published. Pure."""

from __future__ import annotations

from pathlib import Path

from kronos_operator.api import Artifact, Artifacts, KronosModel, PromotionState, Status
from kronos_operator.plan import Answer, Published
from kronos_trainer.config import RunPaths, StageName

_ROOT = Path()  # paths in status are relative to the storage's root, wherever that is
_SHORTEST_HASH = 8


def artifacts_of(model: KronosModel, published: Published) -> Artifacts:
    """The published run, with all that is known of its weights: by what was reported, else by status."""
    status = model.status or Status()
    run, before = status.run, status.artifacts
    hashes = {fact.stage: fact.hash for fact in status.tracking.trained if fact.run == published.run}
    digests = {}
    if run is not None and run.id == published.run:
        hashes |= run.stage_hashes
        digests = {stage.stage: stage.digest for stage in run.stages}
    found = {}
    for stage in StageName.with_weights():
        hash_ = published.hashes.get(stage) or hashes.get(stage, "")
        if len(hash_) < _SHORTEST_HASH:
            continue
        old = None if before is None else before.of(stage)
        same = old.digest if old is not None and old.hash == hash_ else None
        path = RunPaths(_ROOT, model.ref, published.run).stage(stage).best
        digest = published.digests.get(stage) or digests.get(stage) or same
        found[stage.value] = Artifact(path=str(path), digest=digest, hash=hash_)
    return Artifacts(run=published.run, **found)


def metrics_of(before: Status, published: Published) -> dict[str, float]:
    """The metrics of the published run, as far as its history goes back."""
    if before.published_run == published.run:
        return before.metrics
    return next((entry.metrics for entry in before.history if entry.run == published.run and entry.metrics), {})


def promotion_of(answer: Answer, now: float) -> PromotionState:
    """status.promotion of an answer."""
    published = answer.published
    return PromotionState(
        action=answer.request.verb.value,
        request=answer.request.text,
        outcome="Failed" if published is None else "Succeeded",
        run=None if published is None else published.run,
        previous=None if published is None else published.previous or None,
        reason=answer.reason,
        message=answer.message,
        time=now,
    )
