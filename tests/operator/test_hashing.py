from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from kronos_operator.api import Spec
from kronos_operator.hashing import Digests, run_id, stage_hashes, template_hash, trained
from kronos_operator.loading import load_models
from kronos_trainer.config import Columns, OneOf, StageName

EXAMPLES = Path(__file__).parents[2] / "manifests" / "examples"
TOKENIZER, PREDICTOR, EVALUATION = StageName
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
    assert stage_hashes(spec()) == {
        TOKENIZER: "7f38ea59f47d9079",
        PREDICTOR: "13f35a6eb71073e3",
        EVALUATION: "ff1aa7cd1e86552c",
    }
    strict = spec(evaluation={"samples": 50}, promotion={"onUndecided": "publish"})
    assert stage_hashes(strict)[EVALUATION] == "842d179f119a8875"
    assert trained(stage_hashes(full)) == {TOKENIZER: "8b667968af77162c", PREDICTOR: "104c25d4dbd11b34"}
    assert trained(stage_hashes(full, Digests(bars="ab" * 32, weights={PREDICTOR: "cd" * 32}))) == {
        TOKENIZER: "2e2422ce9871d988",
        PREDICTOR: "4d67cbd56e614252",
    }
    assert run_id(stage_hashes(spec())) == "491599af"
    assert run_id(stage_hashes(spec()), "2026-11-24T06:00:00Z") == "c7bfe607"


RECORDED = {
    "model_a_4h.yaml": ("c7d112573ba2ecc7", "7e370ad7d3546758", "49459fca", "f3df4cf2c6f8bd3f"),
    "model_b_1d.yaml": ("da4bff1cd973619e", "fa21770c1f6fadfa", "c84bc859", "4400ef7310f72cfa"),
    "try_me.yaml": ("3e19c070d8e1d241", "eae3eef8a7332cb1", "c4df6b90", "57eaae77526be269"),
}
ODD: dict[str, tuple[dict[str, Any], str, str]] = {
    "weights as they are": (
        {"tokenizer": {"epochs": 0}, "predictor": {"epochs": 0, "init": {"path": "weights"}}},
        "b8c485ef498872d5",
        "e33e5b9e6898bc2f",
    ),
    "bars of a hub": (
        {
            "timeframe": "1mo",
            "data": {
                "source": {"uri": "hf://datasets/a/b"},
                "timeZone": "Asia/Shanghai",
                "badRows": "drop",
                "label": "right",
                "adjust": "splits",
                "columns": {"close": "收盘"},
                "calendar": "XSHG",
            },
        },
        "32c115d0e443483c",
        "9c012d0badc42b95",
    ),
    "a warm start": (
        {
            "predictor": {"init": {"published": True}, "betas": [0.5, 0.25]},
            "training": {"upstreamExact": True, "precision": "bf16", "windowsPerEpoch": 1},
        },
        "cfe292638cf27db7",
        "2eb631dfcacbe65b",
    ),
}


@pytest.mark.parametrize("file", RECORDED)
def test_the_hashes_and_run_ids_of_the_shipped_models_never_change(file: str) -> None:
    (loaded,) = load_models([EXAMPLES / file])
    hashes = stage_hashes(loaded.model.spec)
    assert (*trained(hashes).values(), run_id(hashes), template_hash(loaded.model.spec)) == RECORDED[file]


@pytest.mark.parametrize("name", ODD)
def test_hashes_of_odd_specs_never_change(name: str) -> None:
    changes, *recorded = ODD[name]
    assert list(trained(stage_hashes(spec(**changes))).values()) == recorded


ALL, AFTER, SCORES, TEMPLATE = set(StageName), {PREDICTOR, EVALUATION}, {EVALUATION}, {"template"}
NONE: set[str] = set()
# Every field of a spec, and of its parts where these enter a stage's hash field by field: another value of it, and the
# hashes that change with it. A new field fails the test until it is listed: somebody has to decide what it enters.
FIELDS: dict[str, tuple[Any, set[str]]] = {
    "timeframe": ("4h", ALL),
    "image": ("trainer:2", TEMPLATE),
    "data.source.claim.name": ("others", ALL),
    "data.source.claim.path": ("us/hourly", ALL),
    "data.source.path": ("bars", ALL),
    "data.source.uri": ("s3://bars", ALL),
    "data.revision": ("2", ALL),
    "data.split.fractions.train": (0.8000001, ALL),
    "data.split.fractions.validation": (0.1000001, ALL),
    "data.split.fractions.test": (0.1000001, ALL),
    "data.split.ranges.train.start": ("2009-01-01", ALL),
    "data.split.ranges.train.end": ("2011-01-01", ALL),
    "data.split.ranges.validation.start": ("2013-01-01", ALL),
    "data.split.ranges.validation.end": ("2013-01-01", ALL),
    "data.split.ranges.test.start": ("2015-01-01", ALL),
    "data.split.ranges.test.end": ("2015-01-01", ALL),
    "data.clip": (4.0, ALL),
    "data.timeZone": ("Asia/Shanghai", ALL),
    **{f"data.columns.{name}": ("Own", ALL) for name in Columns.model_fields},
    "data.calendar": ("XNYS", NONE),  # it names the times of forecasts
    "data.badRows": ("drop", ALL),
    "data.label": ("right", ALL),
    "data.adjust": ("splits", ALL),
    # looked at, not trained on
    "data.covariates": ([{"name": "CPI", "source": "cpi.csv", "columns": ["cpi"], "lag": "45d"}], SCORES),
    "window.lookback": (91, ALL),
    "window.horizon": (11, ALL),
    "window.maxContext": (256, ALL),
    "training.seed": (1, ALL),
    "training.precision": ("fp32", ALL),
    "training.windowsPerEpoch": (1000, ALL),
    "training.validationWindows": (1000, ALL),
    "training.gradientCheckpointing": (True, ALL),
    "training.compile": (True, ALL),
    "training.earlyStopping.patience": (3, ALL),
    "training.upstreamExact": (True, ALL),
    "training.selectBy": ("crps", AFTER),  # a tokenizer makes no forecasts
    "training.selectEvery": (2, AFTER),
    "training.selectWindows": (32, AFTER),
    **{
        f"{stage}.{name}": (value, changes)
        for stage, changes in ((TOKENIZER, ALL), (PREDICTOR, AFTER))
        for name, value in {
            "init.hub.repo": "a/b",
            "init.hub.revision": "1",
            "init.path": "weights",
            "init.published": True,
            "init.scratch.size": "tiny",
            "epochs": 31,
            "batchSize": 128,
            "microBatchSize": 8,
            "learningRate": 1e-3,
            "weightDecay": 0.5,
            "betas": [0.5, 0.5],
            "warmupFraction": 0.5,
            "gradientClip": 9.0,
        }.items()
    },
    "evaluation.enabled": (False, SCORES),
    "evaluation.samples": (50, SCORES),
    "evaluation.maxSeconds": (60, SCORES),
    "evaluation.pretrainedUntil": ("2024-07-01", SCORES),
    "evaluation.backtest.strategy": ("long-short", SCORES),
    "evaluation.backtest.topK": (3, SCORES),
    "evaluation.backtest.dropOut": (2, SCORES),
    "evaluation.backtest.costBps": (1.0, SCORES),
    "evaluation.backtest.slippageBps": (0.0, SCORES),
    "promotion.metric": ("crps", NONE),  # there is no other
    "promotion.against": (["naive"], SCORES),
    "promotion.minImprovement": (0.01, SCORES),
    "promotion.confidence": (0.95, SCORES),
    "promotion.onUndecided": ("publish", SCORES),
    "checkpoint": ({"everySeconds": 5}, TEMPLATE),
    "progress": ({"everySeconds": 1}, NONE),
    "resources": ({"nodes": 2}, TEMPLATE),
    "storage": ({"claim": {"name": "elsewhere"}}, TEMPLATE),
    "backend": ("PyTorchJob", TEMPLATE),
    "hubTokenSecret": ({"name": "hub", "key": "token"}, TEMPLATE),
    "comet": ({"project": "p"}, TEMPLATE),
    "retry": ({"maxRestarts": 9}, NONE),
    "updatePolicy": ("Manual", NONE),
    "suspend": (True, NONE),
    "priority": (1, NONE),
    "schedule": ({"cron": "0 6 * * 6"}, NONE),
    "historyLimit": (1, NONE),
    "childTTLSecondsAfterFinished": (60, NONE),
    "podTemplate": ({"labels": {"team": "quant"}}, TEMPLATE),
}
BY_FIELD = {"data", "window", "training", "promotion", *StageName}
# Where a part has no defaults, or an alternative is the default: what is there before one of its fields changes.
BEFORE: dict[str, Any] = {
    "ranges": {
        "train": {"start": "2010-01-01", "end": "2012-01-01"},
        "validation": {"start": "2012-01-01", "end": "2014-01-01"},
        "test": {"start": "2014-01-01", "end": "2016-01-01"},
    },
    "columns": {"close": "Price"},
    "earlyStopping": {"patience": 2},
    "init": {"hub": {"repo": "a/a"}},
    "scratch": {"size": "base"},
}


def parts_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is tuple:
        return []  # a list is one value
    return [part for inner in get_args(annotation) for part in parts_of(inner)]


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        path = f"{prefix}{info.alias or name}"
        parts = parts_of(info.annotation) if path.split(".")[0] in BY_FIELD else []
        yield from (field for part in parts for field in fields_of(part, f"{path}.")) if parts else [path]


def change(tree: dict[str, Any], path: list[str], value: Any, model: type[BaseModel] = Spec) -> dict[str, Any]:
    """The tree before the change, which is then made in it; of alternatives the others go."""
    name, *rest = path
    alternatives = set(tree) - {name} if issubclass(model, OneOf) else set()
    if not rest:
        before = copy.deepcopy(tree)
        tree[name] = value
    else:
        part = next(info for own, info in model.model_fields.items() if (info.alias or own) == name)
        below = tree.setdefault(name, copy.deepcopy(BEFORE.get(name, {})))
        before = copy.deepcopy(tree) | {name: change(below, rest, value, parts_of(part.annotation)[0])}
        for other in alternatives:
            del before[other]
    for other in alternatives:
        del tree[other]
    return before


def test_every_field_of_a_spec_is_known_to_enter_the_stage_hashes_or_the_template_hash_or_neither() -> None:
    assert set(FIELDS) == set(fields_of(Spec))


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_changes_the_hashes_that_it_enters_and_no_other(path: str) -> None:
    value, changes = FIELDS[path]
    tree = copy.deepcopy(BASE)
    before, after = (
        stage_hashes(of) | {"template": template_hash(of)}
        for of in map(Spec.model_validate, (change(tree, path.split("."), value), tree))
    )
    assert {name for name in before if before[name] != after.get(name)} == changes


@pytest.mark.parametrize(
    "changes",
    [
        {"predictor": {"init": {"hub": {"repo": "NeoQuasar/Kronos-small"}}, "epochs": 30}},
        {"window": {"lookback": 90, "horizon": 10, "maxContext": 512}},
        {"resources": {"nodes": 1}, "backend": "Job"},
    ],
)
def test_defaults_that_are_spelled_out_change_no_hash(changes: dict[str, Any]) -> None:
    assert stage_hashes(spec(**changes)) == stage_hashes(spec())
    assert template_hash(spec(**changes)) == template_hash(spec())


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
