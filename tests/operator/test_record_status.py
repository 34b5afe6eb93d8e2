from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from kronos_operator.api import KronosModel, RunStep, Status
from kronos_operator.plan import Completed, Outcome, Restart, RunRecord, Step, StopReason
from kronos_operator.reconcile.record_status import (
    MOST_TRAINED,
    completed_after,
    record_of,
    restarts_of,
    run_of,
    tracking_of,
)
from kronos_operator.text import plain
from kronos_trainer.config import StageName

MODEL = KronosModel.model_validate(
    {"metadata": {"name": "m"}, "spec": {"timeframe": "1d", "data": {"source": {"claim": {"name": "bars"}}}}}
)

ids = st.text("0123456789abcdef", min_size=8, max_size=8)
moments = st.integers(0, 4_000_000_000).map(float)
counts = st.integers(0, 1000)
words = st.text(max_size=20).map(plain)  # what enters a status is
steps = st.builds(
    Step,
    stage=st.sampled_from(StageName),
    hash=ids,
    done=st.booleans(),
    reuse=st.none() | ids,
    publish=st.booleans(),
)
records = st.builds(
    RunRecord,
    id=ids,
    hashes=st.tuples(ids, ids).map(lambda both: tuple(zip(StageName, both, strict=True))),
    steps=st.lists(steps, max_size=2).map(tuple),
    trigger=st.text(max_size=20),
    cancel=st.text(max_size=20),
    started_at=moments,
    number=counts,
    settings=ids,
    crashes=counts,
    disruptions=counts,
    stalls=counts,
    out_of_memory=counts,
    memory_kills=counts,
    incomplete=counts,
    recent=st.lists(moments, max_size=3).map(tuple),
    last=st.none() | st.builds(Restart, reason=st.just("Evicted"), message=words, at=moments),
    begun=st.booleans(),
    stepped=st.booleans(),
    disrupted=st.booleans(),
    stop=st.none() | st.sampled_from(StopReason),
    retry_at=st.none() | moments,
    outcome=st.none() | st.sampled_from(Outcome),
    reason=st.sampled_from(["", "TrainerCrashed"]),
    message=words,
)


@given(records)
def test_a_record_survives_the_way_through_status(record: RunRecord) -> None:
    notes = tracking_of(record, (), None)
    status = Status(run=run_of(record, MODEL, {}), tracking=notes, restarts=restarts_of(record))
    # The API server keeps maps in the order of their keys.
    text = json.dumps(status.model_dump(mode="json", by_alias=True, exclude_none=True), sort_keys=True, allow_nan=False)
    assert record_of(Status.model_validate_json(text)) == record


def test_what_a_trainer_told_of_a_stage_is_kept_only_for_the_same_hash() -> None:
    step = Step(stage=StageName.TOKENIZER, hash="a" * 16, done=True)
    record = RunRecord(id="r", hashes=(), steps=(step,))
    told = RunStep(stage=StageName.TOKENIZER, hash="a" * 16, digest="d", metrics={"seconds": 1.0})
    (kept,) = run_of(record, MODEL, {StageName.TOKENIZER: told}).steps
    assert (kept.digest, kept.metrics) == ("d", {"seconds": 1.0})
    (dropped,) = run_of(record, MODEL, {StageName.TOKENIZER: told.model_copy(update={"hash": "b" * 16})}).steps
    assert (dropped.digest, dropped.metrics) == (None, {})


def test_finished_stages_are_remembered_newest_first_and_without_end_only_so_far() -> None:
    known = tuple(Completed(run=f"r{n}", stage=StageName.TOKENIZER, hash="a" * 16) for n in range(MOST_TRAINED))
    steps = (
        Step(stage=StageName.TOKENIZER, hash="a" * 16, done=True, reuse="r1"),
        Step(stage=StageName.PREDICTOR, hash="b" * 16, done=True),
    )
    after = completed_after(known, RunRecord(id="new", hashes=(), steps=steps))
    assert after[0] == Completed(run="new", stage=StageName.PREDICTOR, hash="b" * 16)
    assert len(after) == MOST_TRAINED
    assert after[1:] == known[:-1]
