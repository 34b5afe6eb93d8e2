"""result.json: its bytes, and what an older reader makes of a newer one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kronos_trainer.config import StagePaths, StageResult

RECORDED = (Path(__file__).parent / "fixtures" / "wire" / "result.json").read_text()


def rebuilt(result: Any) -> Any:
    """The same, made from its fields alone and not from what was read."""
    parts = {name: getattr(result, name) for name in result.model_fields_set}
    return type(result)(
        **{name: rebuilt(part) if hasattr(part, "model_fields_set") else part for name, part in parts.items()}
    )


def test_result_json_is_byte_for_byte_as_recorded() -> None:
    result = StageResult.load(RECORDED)
    assert not result.malformed
    assert rebuilt(result).dump() == RECORDED
    assert result.dump() == RECORDED


def test_a_stage_without_epochs_writes_only_what_it_knows() -> None:
    result = StageResult(stage="tokenizer", hash="t" * 12, epochs=0, steps=0, parameters=5, origin="path:x", digest="d")
    assert list(json.loads(result.dump())) == ["stage", "hash", "epochs", "steps", "parameters", "origin", "digest"]
    assert (result.windows, result.data, result.best_validation_loss) == (None, None, None)


def test_an_older_reader_keeps_what_a_newer_version_adds() -> None:
    newer = json.loads(RECORDED) | {"version": 2, "sharpeRatio": 1.5}
    newer["data"]["exchange"] = "XNYS"
    result = StageResult.load(json.dumps(newer))
    assert (result.version, result.best_validation_loss) == (2, 3.5083623799410733)
    assert result.data is not None and result.data.symbols == 2
    assert result.wire == newer and json.loads(result.dump()) == newer


@pytest.mark.parametrize("bad", ["x", float("nan"), 10**400, -1, True, [], {}, None])
@pytest.mark.parametrize("field", ["seconds", "epochs", "windows", "data", "notes", "digest", "software"])
def test_a_value_of_another_kind_costs_no_more_than_its_field(field: str, bad: object) -> None:
    wire = json.loads(RECORDED)
    (wire["data"] if field == "notes" else wire)[field] = bad
    result = StageResult.read(wire)
    assert (result.stage, result.hash, result.run) == ("predictor", "p" * 12, "whole")
    assert all(isinstance(value, float) for value in result.metrics.values())
    assert isinstance(result.digest, str) and all(isinstance(note, str) for note in (result.data or result).wire)


def test_the_last_day_of_the_bars_is_that_of_the_spans_and_goes_into_the_last_words() -> None:
    spans = {"train": ["2020-01-01T00:00:00", "2024-01-01T00:00:00"], "test": ["2024-01-01", "2024-03-01T09:30:00"]}
    result = StageResult.read({"bytes": 7, "data": {"spans": spans}})
    assert result.through == "2024-03-01"
    assert StageResult.read({"data": {"spans": {"train": spans["train"]}}}).through == "2023-12-31"  # ends are outside
    received = StageResult.read(result.short)
    assert (received.bytes, received.data, received.through) == (7, None, "2024-03-01")
    for spans in ({}, {"train": ["", "soon"]}, {"train": ["", "0001-01-01"]}):
        assert StageResult.read({"data": {"spans": spans}}).through == ""
        assert "dataThrough" not in StageResult.read({"data": {"spans": spans}}).short


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null"])
def test_a_damaged_result_is_no_result(text: str, tmp_path: Path) -> None:
    files = StagePaths(tmp_path)
    assert files.completed() is None
    files.result.write_text(text)
    assert files.completed() is None
    with pytest.raises(ValueError, match=r"JSON|Expecting"):
        StageResult.load(text)
