from __future__ import annotations

from typing import Any

import pytest

from kronos_operator.api import Spec
from kronos_operator.hashing import Digests, run_id, stage_hashes, template_hash
from kronos_trainer.config import StageName

TOKENIZER, PREDICTOR = StageName.TOKENIZER, StageName.PREDICTOR
BASE: dict[str, Any] = {"timeframe": "1d", "data": {"source": {"claim": {"name": "bars", "path": "us/daily"}}}}


def spec(**changes: Any) -> Spec:
    return Spec.model_validate(BASE | changes)


def test_hashes_of_known_specs_never_change() -> None:
    """A failure here means that an upgrade would retrain every model of every user."""
    full = spec(
        data={
            "source": {"path": "bars"},
            "revision": "2026-11-20",
            "split": {
                "ranges": {
                    "train": {"start": "2000-01-01", "end": "2010-01-01"},
                    "validation": {"start": "2010-01-01", "end": "2012-01-01"},
                }
            },
            "clip": 4,
        },
        window={"lookback": 120, "horizon": 15},
        tokenizer={"init": {"scratch": {"size": "tiny"}}, "epochs": 2, "betas": [0.9, 0.999]},
        predictor={"init": {"scratch": {"size": "mini"}}, "learningRate": 3e-5},
        training={"seed": 7, "earlyStopping": {"patience": 3}},
    )
    assert stage_hashes(spec()) == {TOKENIZER: "41ec4506caf68935", PREDICTOR: "881a5cf0808b1d36"}
    assert stage_hashes(full) == {TOKENIZER: "6c5e19293100948f", PREDICTOR: "9c702a9dcc53f464"}
    assert stage_hashes(full, Digests(bars="ab" * 32, weights={PREDICTOR: "cd" * 32})) == {
        TOKENIZER: "08850a8a053e9428",
        PREDICTOR: "b864e465f106e8b9",
    }
    assert run_id(stage_hashes(spec())) == "205568e0"
    assert run_id(stage_hashes(spec()), "2026-11-24T06:00:00Z") == "ac095350"


@pytest.mark.parametrize(
    "changes",
    [
        {"image": "trainer:2"},
        {"resources": {"nodes": 4, "gpusPerNode": 8}},
        {"storage": {"claim": {"name": "elsewhere"}}},
        {"comet": {"project": "p"}},
        {"retry": {"maxRestarts": 9}},
        {"checkpoint": {"everySeconds": 5}},
        {"suspend": True},
        {"data": BASE["data"] | {"calendar": "XNYS"}},
        {"updatePolicy": "Cancel"},
        {"predictor": {"init": {"hub": {"repo": "NeoQuasar/Kronos-small"}}, "epochs": 30}},  # the defaults, spelled out
        {"window": {"lookback": 90, "horizon": 10, "maxContext": 512}},
    ],
)
def test_what_changes_no_number_changes_no_hash(changes: dict[str, Any]) -> None:
    assert stage_hashes(spec(**changes)) == stage_hashes(spec())


@pytest.mark.parametrize(
    "changes",
    [
        {"timeframe": "4h"},
        {"window": {"lookback": 91}},
        {"training": {"seed": 1}},
        {"tokenizer": {"epochs": 31}},
        {"data": BASE["data"] | {"revision": "2"}},
        {"data": BASE["data"] | {"badRows": "drop"}},
        {"data": BASE["data"] | {"columns": {"close": "Price"}}},
        {"data": BASE["data"] | {"label": "right"}},
        {"data": BASE["data"] | {"adjust": "splits"}},
        {"data": {"source": {"uri": "s3://bars"}}},
    ],
)
def test_what_a_tokenizer_is_trained_on_changes_both_hashes(changes: dict[str, Any]) -> None:
    before, after = stage_hashes(spec()), stage_hashes(spec(**changes))
    assert before[TOKENIZER] != after[TOKENIZER]
    assert before[PREDICTOR] != after[PREDICTOR]


def test_predictor_changes_leave_the_tokenizer_alone() -> None:
    before, after = stage_hashes(spec()), stage_hashes(spec(predictor={"epochs": 31}))
    assert before[TOKENIZER] == after[TOKENIZER]
    assert before[PREDICTOR] != after[PREDICTOR]


def test_a_tokenizer_that_is_not_trained_depends_on_its_weights_alone() -> None:
    weights = {"epochs": 0, "init": {"hub": {"repo": "a/b", "revision": "1"}}}
    before = stage_hashes(spec(tokenizer=weights))
    assert stage_hashes(spec(tokenizer=weights | {"learningRate": 1e-3})) == before
    other = stage_hashes(spec(tokenizer={"epochs": 0, "init": {"hub": {"repo": "a/b", "revision": "2"}}}))
    assert other[TOKENIZER] != before[TOKENIZER]
    assert other[PREDICTOR] != before[PREDICTOR]


def test_bars_and_weights_count_by_their_bytes_where_these_are_known() -> None:
    here = spec(data={"source": {"path": "here"}}, predictor={"init": {"path": "old"}})
    there = spec(data={"source": {"claim": {"name": "there"}}}, predictor={"init": {"path": "new"}})
    digests = Digests(bars="a" * 64, weights={PREDICTOR: "b" * 64})
    assert stage_hashes(here) != stage_hashes(there)
    assert stage_hashes(here, digests) == stage_hashes(there, digests)
    for other in (
        Digests(bars="c" * 64, weights=digests.weights),
        Digests(bars="a" * 64, weights={PREDICTOR: "c" * 64}),
    ):
        assert stage_hashes(here, digests)[PREDICTOR] != stage_hashes(here, other)[PREDICTOR]


def test_settings_are_what_shapes_a_child_and_only_that() -> None:
    before = template_hash(spec())
    assert template_hash(spec(image="trainer:2")) != before
    assert template_hash(spec(resources={"nodes": 2})) != before
    assert template_hash(spec(training={"seed": 1}, suspend=True, updatePolicy="Manual")) == before
