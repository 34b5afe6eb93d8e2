"""How a run begins."""

from __future__ import annotations

from collections.abc import Sequence

from kronos_operator.api import Outcome, Restarts, Run, RunStage, TrainedStage
from kronos_operator.hashing import run_id
from kronos_operator.plan.request import Request

# Of a stage, by its trainer.
_REPORTED = {"digest", "bytes", "data_through", "metrics", "verdict", "promotion", "promotion_message"}


def begin(request: Request, before: Run | None, trained: Sequence[TrainedStage], published: str, now: float) -> Run:
    """The run that answers the request: the same one again if it was asked for before, so that it goes on.

    `before` is the latest run and `trained` all finished stages, newest first. Stages finished with the same hash are
    not trained again, in whichever run that was, unless retraining is asked for.
    """
    hashes = request.stage_hashes
    anew = request.asks_anew(before)
    own_stages = [(stage, value) for stage, value in hashes.items() if request.spec.runs(stage)]
    identity = run_id(hashes, request.trigger)
    if anew and before is not None and any(fact.run == identity for fact in trained):
        # The text of an earlier request comes again, and names its run, which must not be the answer this time. Only
        # then the attempt tells the two apart: a recreated object, with the same text, has to find its run.
        identity = run_id(hashes, f"{request.trigger} {before.attempt}")
    weights = [(stage, value) for stage, value in own_stages if stage.has_weights]
    finals = [fact.run for fact in trained if weights and (fact.stage, fact.hash) == weights[-1]]
    if before is not None and before.stage_hashes == hashes and not anew:
        identity = before.id
    elif finals and identity not in finals and not anew:
        identity = finals[0]

    known = {} if before is None else {stage.hash: stage for stage in before.stages}
    held = {value for value, stage in known.items() if before is not None and before.id == identity and stage.held}
    stages = []
    for stage, value in own_stages:
        runs = [fact.run for fact in trained if (fact.stage, fact.hash) == (stage, value)]
        own = identity in runs
        last = stage is own_stages[-1][0]
        may_reuse = not last and not (anew and stage in request.stages)
        reuse = runs[0] if runs and not own and may_reuse else None
        # A finished run that is neither published nor held starts its last stage again: the trainer finds it complete
        # and publishes it.
        done = reuse is not None or (own and (not last or published == identity or value in held))
        same = known.get(value) if done else None
        stages.append(
            RunStage(
                stage=stage,
                hash=value,
                wanted=stage in request.stages,
                done=done,
                reuse=reuse,
                publish=last,
                **({} if same is None else same.model_dump(include=_REPORTED)),
            )
        )

    run = Run(
        id=identity,
        attempt=0 if before is None else before.attempt,
        started_at=now,
        stage_hashes=hashes,
        stages=tuple(stages),
        trigger=request.trigger,
        cancel=request.cancel,
    )
    following = run.next_stage
    if following is None:
        return run.evolve(outcome=Outcome.SUCCEEDED, reason="Succeeded", message="nothing is left to train")
    missing = next(stage for stage in run.stages if not stage.done)
    if missing is not following:
        message = f"{following.stage} requires a trained {missing.stage}"
        return run.evolve(outcome=Outcome.FAILED, reason="InputMissing", message=message)
    out_of_memory = request.out_of_memory.get((identity, following.stage), 0)
    return run.evolve(restarts=Restarts(out_of_memory=out_of_memory)) if out_of_memory else run
