"""What status says of a promotion or rollback that was answered, and of the run that it has published. Pure."""

from __future__ import annotations

from pathlib import Path

from kronos_operator.api import Artifact, Artifacts, KronosModel, PromotionState, RunStage, Status
from kronos_operator.plan import Answer, Published
from kronos_trainer.config import RunPaths, StageName

_ROOT = Path()  # paths in status are relative to the storage's root, wherever that is
_SHORTEST_HASH = 8


def artifacts_of(model: KronosModel, published: Published) -> Artifacts:
    """The published run, with all that is known of its weights: by what was reported, else by status."""
    status = model.status or Status()
    run, before = status.run, status.artifacts
    hashes = {fact.stage: fact.hash for fact in status.tracking.trained if fact.run == published.run}
    stages: dict[StageName, RunStage] = {}
    if run is not None and run.id == published.run:
        hashes |= run.stage_hashes
        stages = {stage.stage: stage for stage in run.stages}
    found = {}
    for stage in StageName.with_weights():
        hash_ = published.hashes.get(stage) or hashes.get(stage, "")
        if len(hash_) < _SHORTEST_HASH:
            continue
        reported, old = stages.get(stage), None if before is None else before.of(stage)
        digest = published.digests.get(stage) or (None if reported is None else reported.digest)
        # A digest that was reported tells weights of the same hash apart: trained again, perhaps on more bars.
        same = old if old is not None and old.hash == hash_ and digest in (None, old.digest) else None
        known = [one for one in (reported, same) if one is not None]
        found[stage.value] = Artifact(
            path=str(RunPaths(_ROOT, model.ref, published.run).stage(stage).best),
            digest=digest or (None if same is None else same.digest),
            hash=hash_,
            bytes=published.bytes.get(stage, next((one.bytes for one in known if one.bytes is not None), None)),
            data_through=published.through.get(stage)
            or next((one.data_through for one in known if one.data_through is not None), None),
        )
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
