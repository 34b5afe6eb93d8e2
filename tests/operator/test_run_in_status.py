"""A run is kept in its model's status: nothing of it is lost on the way through the API server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kronos_operator.api import LastRestart, Outcome, Restarts, Run, RunStage, Status, StopReason, TrainedStage
from kronos_operator.api.run import MOST_TRAINED
from kronos_trainer.config import StageName

ids = st.text("0123456789abcdef", min_size=8, max_size=8)
moments = st.integers(0, 4_000_000_000).map(float)
counts = st.integers(0, 1000)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
stages = st.builds(
    RunStage,
    stage=st.sampled_from(StageName),
    hash=ids,
    wanted=st.booleans(),
    done=st.booleans(),
    reuse=st.none() | ids,
    publish=st.booleans(),
    digest=st.none() | ids,
    bytes=st.none() | counts,
    data_through=st.none() | st.dates().map(str),
    verdict=st.none() | ids,
    promotion=st.none() | ids,
    promotion_message=st.none() | texts,
    metrics=st.dictionaries(ids, st.floats(allow_nan=False, allow_infinity=False), max_size=2),
)
restarts = st.builds(
    Restarts,
    crashes=counts,
    disruptions=counts,
    stalls=counts,
    out_of_memory=counts,
    memory_kills=counts,
    incomplete=counts,
    last=st.none() | st.builds(LastRestart, reason=st.just("Evicted"), message=texts, time=moments),
)
runs = st.builds(
    Run,
    id=ids,
    attempt=counts,
    started_at=moments,
    gpus=counts,
    stage_hashes=st.tuples(ids, ids, ids).map(lambda all_: dict(zip(StageName, all_, strict=True))),
    stages=st.lists(stages, max_size=2).map(tuple),
    trigger=texts,
    cancel=texts,
    template_hash=ids,
    has_progress=st.booleans(),
    begun=st.booleans(),
    disrupted=st.booleans(),
    disrupted_at=st.lists(moments, max_size=3).map(tuple),
    restarts=restarts,
    stop=st.none() | st.sampled_from(StopReason),
    retry_at=st.none() | moments,
    outcome=st.none() | st.sampled_from(Outcome),
    reason=st.sampled_from(["", "TrainerCrashed"]),
    message=texts,
)


def through_the_server(run: Run) -> Run:
    text = Status(run=run).model_dump(mode="json", by_alias=True, exclude_none=True)
    # The API server keeps maps in the order of their keys.
    read = Status.model_validate_json(json.dumps(text, sort_keys=True, allow_nan=False)).run
    assert read is not None
    return read


@given(runs)
def test_a_run_survives_the_way_through_status(run: Run) -> None:
    read = through_the_server(run)
    assert read == run
    assert list(read.stage_hashes) == list(run.stage_hashes)  # run.json has them in the order of the stages


def test_a_stage_that_the_command_line_leaves_out_alone_says_whether_it_is_wanted() -> None:
    wanted = RunStage(stage=StageName.TOKENIZER, hash="a" * 16)
    assert "wanted" not in wanted.model_dump(mode="json")
    assert wanted.evolve(wanted=False).model_dump(mode="json")["wanted"] is False


@pytest.mark.parametrize(
    ("written", "outcome", "stop"),
    [
        ({"outcome": "Perfect"}, Outcome.FAILED, None),
        ({"stop": "Whim"}, None, None),
        ({"outcome": "Succeeded", "stop": "Stalled"}, Outcome.SUCCEEDED, StopReason.STALLED),
    ],
)
def test_a_run_written_by_a_newer_operator_is_read_and_one_that_has_ended_stays_ended(
    written: dict[str, Any], outcome: Outcome | None, stop: StopReason | None
) -> None:
    run = Run.model_validate({"id": "r"} | written)
    assert (run.outcome, run.stop) == (outcome, stop)


def test_texts_of_others_are_cut_and_made_safe_as_they_enter_a_run() -> None:
    run = Run(id="r").evolve(message="\x1b[31m" + "x" * 2000, trigger="t" * 300, reason="R" * 200)
    assert (run.message, len(run.trigger), len(run.reason)) == ("x" * 1024, 256, 128)


@pytest.mark.parametrize("text", ["2027-01-15T08:00:00Z", "2027-01-15T08:00:00.9Z", "2027-01-15T10:00:00+02:00"])
def test_times_are_seconds_here_and_whole_seconds_of_utc_on_the_wire(text: str) -> None:
    run = Run.model_validate({"id": "r", "startedAt": text})
    assert run.started_at is not None and int(run.started_at) == 1_800_000_000
    assert run.model_dump(mode="json", by_alias=True)["startedAt"] == "2027-01-15T08:00:00Z"


def test_trained_stages_are_remembered_newest_first_and_only_so_many() -> None:
    known = tuple(TrainedStage(run=f"r{n}", stage=StageName.TOKENIZER, hash="a" * 16) for n in range(MOST_TRAINED))
    run = Run(
        id="new",
        stages=(
            RunStage(stage=StageName.TOKENIZER, hash="a" * 16, done=True, reuse="r1"),
            RunStage(stage=StageName.PREDICTOR, hash="b" * 16, done=True),
        ),
    )
    after = run.trained_after(known)
    assert after[0] == TrainedStage(run="new", stage=StageName.PREDICTOR, hash="b" * 16)
    assert len(after) == MOST_TRAINED
    assert after[1:] == known[:-1]
    assert run.trained_after(after) == after
