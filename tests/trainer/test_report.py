"""report.md says what happened, in numbers that are those of the results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kronos_trainer.config import RunConfig, StageName, StageResult
from kronos_trainer.training import report

SOFTWARE = {"python": "3.11.7", "torch": "2.9.0", "kronos-operator": "0.1.0"}


def result(stage: StageName, **fields: Any) -> StageResult:
    wire = {
        "stage": stage.value,
        "hash": stage.value[0] * 12,
        "run": "run-1",
        "finishedAt": "2026-03-01T09:02:05Z",
        "seconds": 3725.4,
        "epochs": 2,
        "steps": 1200,
        "parameters": 4_000_000,
        "worldSize": 2,
        "initialValidationLoss": 0.5,
        "bestValidationLoss": 0.25,
        "bestStep": 600,
        "bestEpoch": 1,
        "finalTrainLoss": 0.2401,
        "windows": {"train": 64000, "validation": 6400},
        "data": {"digest": "d" * 64, "symbols": 5, "bars": 17000, "notes": ["FB has too few | bars"]},
        "origin": "scratch:tiny",
        "digest": "e" * 64,
        "bytes": 16_300_000,
        "precision": "bf16",
        "device": "cpu",
        "samplesPerSecond": 1234.5,
        "software": SOFTWARE,
        **fields,
    }
    return StageResult.read(wire)


def render(run: RunConfig, tokenizer: StageResult | None = None, predictor: StageResult | None = None) -> str:
    return report.text(
        run,
        {
            StageName.TOKENIZER: tokenizer or result(StageName.TOKENIZER),
            StageName.PREDICTOR: predictor or result(StageName.PREDICTOR),
        },
    )


def rows(text: str, title: str) -> list[list[str]]:
    """Cells of the tables of a section, without the rulers."""
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|") and not line.startswith("| --")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_sections_in_the_order_in_which_they_are_read(make_run: Callable[..., RunConfig]) -> None:
    text = render(make_run())
    titles = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        "Losses", "Data", "Configuration", "Training", "Weights", "Forecasting", "Evaluation", "Software",
    ]  # fmt: skip
    assert text.split("## Evaluation\n")[1].split("##")[0].strip() == "not run"
    assert "validation loss 0.5000 → 0.2500 (-50.0 %)" in text


def test_the_numbers(make_run: Callable[..., RunConfig]) -> None:
    text = render(make_run(predictor={"init": {"hub": {"repo": "NeoQuasar/Kronos-small"}}, "learningRate": 2e-5}))
    assert rows(text, "Losses")[1] == ["tokenizer", "0.5000", "0.2500", "epoch 1, step 600", "0.2401"]
    assert rows(text, "Training")[2] == [
        "predictor", "2026-03-01T09:02:05Z", "1 h 02 min", "2", "1,200", "1,234.5", "2", "cpu", "bf16",
    ]  # fmt: skip
    assert rows(text, "Weights")[1][:5] == ["tokenizer", "`tokenizer/best`", "16.3 MB", "4,000,000", "this run"]
    configuration = {cells[0]: cells[1:] for cells in rows(text, "Configuration")}
    assert configuration["init"] == ["scratch tiny", "hub NeoQuasar/Kronos-small"]
    assert configuration["learningRate"] == ["0.0001", "2e-05"]
    assert configuration["lookback / horizon / maxContext"] == ["12 / 3 / 512 bars"]
    assert rows(text, "Software")[1] == ["tokenizer", *SOFTWARE.values()]
    assert "5 symbols, 17,000 bars; windows: 64,000 train, 6,400 validation" in text
    assert text.count("- note: FB has too few") == 1
    assert "--horizon 3" in text and "--lookback 12" in text and "--model model-b-1d" in text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"epochs": 0}, "not trained, the initial weights were used unchanged"),
        ({"bestStep": 0, "bestValidationLoss": 0.5}, "training did not improve on the initial validation loss 0.5000"),
        ({"initialValidationLoss": None}, "trained without a validation loss"),
    ],
)
def test_what_went_differently_is_said(make_run: Callable[..., RunConfig], fields: dict[str, Any], said: str) -> None:
    if fields.get("epochs") == 0:  # such a result has no more than this
        kept = ("stage", "hash", "run", "epochs", "steps", "parameters", "origin", "digest", "bytes", "software")
        whole = result(StageName.TOKENIZER, **fields).wire
        tokenizer = StageResult.read({key: value for key, value in whole.items() if key in kept})
    else:
        tokenizer = result(StageName.TOKENIZER, **fields)
    assert f"tokenizer: {said}" in render(make_run(), tokenizer)
    reused = render(make_run(), result(StageName.TOKENIZER, run="run-0"))
    assert rows(reused, "Weights")[1][4] == "run `run-0`, copied here"


def test_explicit_ranges_and_another_namespace(make_run: Callable[..., RunConfig]) -> None:
    ranges = {
        "train": {"start": "2001-01-01", "end": "2010-01-01"},
        "validation": {"start": "2010-01-01", "end": "2011-01-01"},
    }
    run = make_run(
        model={"namespace": "quant", "name": "m"}, data={"source": {"path": "bars"}, "split": {"ranges": ranges}}
    )
    text = render(run)
    assert "train 2001-01-01 to 2010-01-01, validation 2010-01-01 to 2011-01-01" in text
    assert "--model quant/m" in text
