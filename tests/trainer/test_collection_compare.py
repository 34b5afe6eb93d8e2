"""`kronos compare`: two models on the same origins, by the test of an evaluation, or the reason why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_examples as examples
from statsmodels.tsa.stattools import diebold_mariano_test
from test_mirror import Bucket
from test_report import Read, assert_self_contained

from kronos_trainer.collection.__main__ import main
from kronos_trainer.config import StageName
from kronos_trainer.storage import stores

Output = pytest.CaptureFixture[str]


def judged(root: Path, name: str, **fields: Any) -> Path:
    """A judged model, and the path of its evaluation.json."""
    return (
        examples.judged(root, name=name, **{"symbols": ("IBM", "FB"), **fields})
        .paths.stage(StageName.EVALUATION)
        .evaluation
    )


def changed(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def compare(root: Path | str, *options: str) -> int:
    return main(["compare", "a", "b", "--root", str(root), *options])


def losses_of(file: Path) -> dict[str, float | None]:
    found = json.loads(file.read_text())
    return dict(zip(found["dates"], found["forecasters"]["finetuned"]["losses"]["crps"], strict=True))


def test_the_test_is_that_of_an_evaluation_on_common_dates(tmp_path: Path, capsys: Output) -> None:
    one, other = judged(tmp_path, "a", gain=0.12), judged(tmp_path, "b", gain=0.1, seed=1)
    found = json.loads(other.read_text())
    losses = found["forecasters"]["finetuned"]["losses"]["crps"]
    losses[3] = None  # not scored there
    random = np.random.default_rng(3)
    found["forecasters"]["finetuned"]["losses"]["crps"] = [
        loss if loss is None else loss * float(random.lognormal(0, 0.05)) for loss in losses[:-4]
    ]
    other.write_text(json.dumps(found | {"dates": found["dates"][:-4]}))  # cut short by maxSeconds

    assert compare(tmp_path, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    ours, theirs = losses_of(one), losses_of(other)
    common = [date for date in sorted(ours) if theirs.get(date) is not None]
    assert answer["origins"] == common and answer["dates"] == len(common) == 35
    a, b = (np.array([losses[date] for date in common], dtype=float) for losses in (ours, theirs))
    assert answer["improvement"] == pytest.approx(1 - a.mean() / b.mean())
    expected = diebold_mariano_test(
        np.zeros(35), a, b, criterion=lambda _, loss: loss, harvey_adj=True, horizon=1, lags=0
    )
    assert answer["pBetter"] == pytest.approx(expected.pvalue / 2) and answer["verdict"] == "Better"
    assert answer["low"] < answer["improvement"] < answer["high"]
    assert answer["alpha"] == pytest.approx(0.1 / 2)  # the span has been read twice
    assert answer["measures"]["crps"] == pytest.approx([a.mean(), b.mean()])

    assert compare(tmp_path) == 0
    text = capsys.readouterr().out
    assert "BETTER\na forecasts better than b: CRPS lower by " in text and "35 dates" in text
    assert "Of the 40 dates of a, 35 count, those with a score of both; of the 36 dates of b, 35 count" in " ".join(
        text.split()
    )
    assert main(["compare", "b", "a", "--root", str(tmp_path)]) == 0
    assert "WORSE\nb forecasts worse than a" in capsys.readouterr().out


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"spans": {"test": {"start": "2012-01-24T00:00:00", "end": "2013-05-01T00:00:00"}}}, "test spans differ"),
        ({"horizon": 10}, "15 and 10"),
        ({"timeframe": "1h"}, "bars of: 1d and 1h"),
        ({"symbols": ["IBM", "AAPL"]}, "forecast FB only by a; AAPL only by b"),
        ({"dates": [f"2012-02-{day:02d}" for day in range(1, 14)]}, "no origin in common"),
    ],
)
def test_what_is_no_pair_is_refused_with_the_reason(
    tmp_path: Path, capsys: Output, fields: dict[str, Any], words: str
) -> None:
    judged(tmp_path, "a")
    changed(judged(tmp_path, "b"), **fields)
    assert compare(tmp_path) == 64
    error = capsys.readouterr().err
    assert error.startswith("error: a and b cannot be compared: ") and words in error
    if "spans" in fields:
        assert "2012-01-24T00:00:00 to 2013-03-02T00:00:00 and 2012-01-24T00:00:00 to 2013-05-01T00:00:00" in error


def test_weights_that_alone_may_have_seen_the_span_are_not_called_better(tmp_path: Path, capsys: Output) -> None:
    judged(tmp_path, "a", gain=0.3)
    other = judged(tmp_path, "b", seed=2)
    changed(tmp_path / "models/default/a/runs/run-7d21c0/evaluation/evaluation.json", contaminated="seen to 2024")
    assert compare(tmp_path) == 0
    out = capsys.readouterr().out
    assert "NOT OUT OF SAMPLE\na cannot be compared fairly with b: a: seen to 2024" in out
    changed(other, contaminated="seen to 2024", digest="e" * 64)  # both alike: fair to each other
    assert compare(tmp_path) == 0
    out = capsys.readouterr().out
    assert "BETTER" in out and "Not out of sample: a: seen to 2024; b: seen to 2024." in out
    assert "different files of bars" in out


def test_the_published_run_unless_another_is_named(tmp_path: Path, capsys: Output) -> None:
    file = judged(tmp_path, "a")
    judged(tmp_path, "b", gain=0.2, seed=4)
    runs = file.parents[2]
    (runs / "run-7d21c0").rename(runs / "run-old")
    judged(tmp_path, "a", gain=0.4, seed=5)
    (runs.parent / "current.json").write_text('{"run": "run-old"}')
    assert compare(tmp_path) == 0 and "a (run run-old) against b (run run-7d21c0)" in capsys.readouterr().out
    assert main(["compare", "a@published", "default/a@run-7d21c0", "--root", str(tmp_path)]) == 0
    assert "a@published (run run-old) against default/a@run-7d21c0 (run run-7d21c0)" in capsys.readouterr().out
    for names, code, words in (
        (("a", "a@run-old"), 64, "both are run run-old"),
        (("a", "c"), 66, "no run of c is below"),
        (("a", "b@run-9"), 66, "has no run run-9"),
        (("a", "b@candidate"), 66, "no candidate"),
        (("a", "B!"), 64, "not a valid model name"),
    ):
        assert main(["compare", *names, "--root", str(tmp_path)]) == code
        assert words in capsys.readouterr().err
    (runs / "run-old/evaluation/evaluation.json").unlink()
    assert compare(tmp_path) == 66
    assert "run run-old of a was not judged" in capsys.readouterr().err


def test_the_page_and_a_store(tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(tmp_path, "a", gain=0.14)
    judged(tmp_path, "b", seed=2)
    assert compare(tmp_path, "--html") == 0
    file = tmp_path / "compare-a-b.html"
    assert capsys.readouterr().out == f"{file}\n"
    page = file.read_text()
    assert_self_contained(page)
    text = " ".join("".join(Read(page).texts).split())
    assert "a against b" in text and "CRPS of each date" in text
    assert compare(tmp_path) == 0
    said = capsys.readouterr().out
    sentence = said.split("\n\n")[1].split("\n", 1)[1]
    assert " ".join(sentence.split()).split(".")[0] in text.replace("\N{NO-BREAK SPACE}", " ")

    bucket = Bucket()
    monkeypatch.setitem(stores._KINDS, "s3", lambda *args, **options: bucket)
    for path in (path for path in (tmp_path / "models").rglob("*") if path.is_file()):
        bucket.put(path.relative_to(tmp_path).as_posix(), path.read_bytes())
    assert compare("s3://bucket") == 0 and capsys.readouterr().out == said
    assert compare("s3://bucket", "--html") == 64
    assert compare(tmp_path, "--html", "--json") == 64
