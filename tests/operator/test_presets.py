"""The ready files for more timeframes and markets: each is valid, and would train on bars as its market has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from kronos_operator.cli import main, quickstart
from kronos_operator.loading import load_models

FOLDER = Path(__file__).parents[2] / "manifests" / "examples"
SCRATCH = ["--set", "tokenizer.init.scratch.size=tiny", "--set", "predictor.init.scratch.size=tiny"]

Opens = Callable[[datetime], bool]


def during(*spans: tuple[int, int]) -> Opens:
    """Whether a business day's session, spans of minutes since midnight, has a bar at a time."""
    return lambda time: time.weekday() < 5 and any(a <= 60 * time.hour + time.minute < b for a, b in spans)


def around_the_clock(time: datetime) -> bool:
    return True


def on_business_days(time: datetime) -> bool:
    return time.weekday() < 5


NEW_YORK, CHINA = during((570, 960)), during((570, 690), (780, 900))
# For each file: minutes between bars, days of history, when there is a bar, minutes added to a stamp, and what the
# comment on its window counts: bars per cycle, cycles in the lookback and in the horizon.
MARKETS: dict[str, tuple[int, int, Opens, int, int, float, float]] = {
    "stocks_5m.yaml": (5, 120, NEW_YORK, 0, 78, 5, 1),
    "stocks_15m.yaml": (15, 260, NEW_YORK, 0, 26, 10, 1),
    "stocks_1h.yaml": (15, 500, NEW_YORK, 0, 7, 20, 5),
    "stocks_1w.yaml": (7 * 1440, 20 * 365, around_the_clock, 0, 52, 1, 1 / 13),
    "crypto_1h.yaml": (60, 200, around_the_clock, 0, 24 * 7, 2, 1 / 7),
    "ashares_30m.yaml": (30, 500, CHINA, 30, 8, 20, 5),
    "fx_1h.yaml": (60, 250, on_business_days, 0, 24 * 5, 2, 1 / 5),
}


def write_bars(place: Path, file: str) -> None:
    step, days, opens, shift, *_ = MARKETS[file]
    start = datetime(2018, 1, 1)  # a Monday
    times = (start + timedelta(minutes=step * n) for n in range(days * 1440 // step))
    rows = [
        f"{time + timedelta(minutes=shift):%Y-%m-%d %H:%M},{10 + n % 5},{16 + n % 7},{9 - n % 3},{11 + n % 4},{n % 9}"
        for n, time in enumerate(time for time in times if opens(time))
    ]
    place.mkdir(parents=True)
    (place / "A.csv").write_text("\n".join(["timestamps,open,high,low,close,volume", *rows]) + "\n")


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("KRONOS_DATA_PATH", "KRONOS_OUTPUT_PATH", "KRONOS_TOKENIZER_PATH", "KRONOS_PREDICTOR_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("file", MARKETS)
def test_preset_is_valid_has_windows_in_every_part_and_can_be_planned(
    file: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (loaded,) = load_models([FOLDER / file])
    claim = loaded.model.spec.data.source.claim
    assert claim is not None and claim.path is not None
    write_bars(workplace / "data" / claim.name / claim.path, file)

    assert main(["validate", str(FOLDER / file), "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert [note for note in notes if "label: right" in note or "missing" in note or "finer" in note] == []

    assert main(["run", "--dry-run", str(FOLDER / file), *SCRATCH, "--json"]) == 0
    (plan,) = json.loads(capsys.readouterr().out)
    assert [step["action"] for step in plan["steps"][:2]] == ["train", "train"]
    assert not (workplace / "outputs").exists()


@pytest.mark.parametrize("file", MARKETS)
def test_window_is_the_cycles_of_the_market_that_the_comment_counts(file: str) -> None:
    *_, cycle, back, ahead = MARKETS[file]
    (loaded,) = load_models([FOLDER / file])
    window = loaded.model.spec.window
    assert (window.lookback, window.horizon) == (back * cycle, round(ahead * cycle))
    comment = (FOLDER / file).read_text().split("apiVersion")[0]
    assert f"the last {window.lookback} bars" in comment and f"predict the next {window.horizon} " in comment
    assert "# Why this window:" in comment


def test_quickstart_without_a_terminal_takes_the_examples_whose_bars_are_here(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quickstart, "EXAMPLES", FOLDER)
    every = [file.name for file in quickstart._choose_files(asking=False)]
    assert set(MARKETS) < set(every), "without any bars, all of them: the checks then say what is missing"
    write_bars(workplace / "data" / "bars" / "us" / "5m", "stocks_5m.yaml")
    assert [file.name for file in quickstart._choose_files(asking=False)] == ["stocks_5m.yaml"]
