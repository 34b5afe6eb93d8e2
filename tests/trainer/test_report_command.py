"""`kronos report`: finds the latest run, shows it in the way that is asked for, and lists all models."""

from __future__ import annotations

import json
import os
import re
import webbrowser
from pathlib import Path

import pytest
import report_examples as examples
from test_report import EVIL, Read, assert_self_contained

from kronos_trainer import report
from kronos_trainer.config import RunPaths
from kronos_trainer.report.__main__ import main

Output = pytest.CaptureFixture[str]


def written(root: Path, name: str, *, at: int, failure: str | None = None, run: str = "run-1") -> RunPaths:
    """A run that was last at work at a time, in seconds; it has no figures, which take their time."""
    example = examples.Example(root, name, stage="tokenizer", run=run)
    report.write(example.run, example.paths, failure or "no bars")
    example.write(example.paths.stage(example.run.stage).config, example.run.dump())
    for path in example.paths.run_dir.rglob("*"):
        os.utime(path, (at, at))
    return example.paths


def test_the_latest_run_unless_another_is_named(tmp_path: Path, capsys: Output) -> None:
    old, new = (written(tmp_path, "m", at=at, run=run) for at, run in ((10, "run-a"), (20, "run-b")))
    assert main(["m", "--root", str(tmp_path)]) == 0 and capsys.readouterr().out == f"{new.report}\n"
    assert main(["m", "--root", str(tmp_path), "--run", "run-a"]) == 0 and capsys.readouterr().out == f"{old.report}\n"
    assert main(["m", "--root", str(tmp_path), "--run", "run-c"]) == 66
    assert "m has no run run-c here; there are run-b, run-a" in capsys.readouterr().err


def test_text_and_browser(tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = written(tmp_path, "m", at=10, failure="the disk is full")
    said = next((tmp_path / "logs").iterdir())
    assert main(["m", "--root", str(tmp_path), "--text"]) == 0
    first = capsys.readouterr().out
    assert first == said.read_text()
    said.unlink()  # as after `kronos pull`, which brings the run alone
    assert main(["m", "--root", str(tmp_path), "--text"]) == 0
    assert capsys.readouterr().out == first

    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda uri: bool(opened.append(uri)) or len(opened) == 1)
    assert main(["m", "--root", str(tmp_path), "--open"]) == 0 and opened == [paths.report.as_uri()]
    assert main(["m", "--root", str(tmp_path), "--open"]) == 66
    assert "no browser was found; open /" in capsys.readouterr().err


def test_mistakes_say_what_to_do(tmp_path: Path, capsys: Output) -> None:
    written(tmp_path, "m", at=10)
    written(tmp_path, "m", at=10)
    other = examples.Example(tmp_path, model={"namespace": "team", "name": "m"}, stage="tokenizer")
    report.write(other.run, other.paths, "no bars")
    for arguments, code, words in (
        (["absent"], 66, r"no run of absent is below .*; set another --root, or fetch .*`kronos pull absent --to"),
        (["m"], 64, "there is a model m in default and team: set --namespace"),
        (["../m"], 64, "is not a valid model name"),
        ([], 64, "name a model, or use --all"),
        (["m", "--all"], 64, "name a model, or use --all"),
        (["m", "--open", "--text"], 64, "use one"),
        (["--all", "--root", str(tmp_path / "absent")], 66, "no model is below"),
    ):
        assert main(["--root", str(tmp_path), *arguments]) == code
        assert re.search(words, capsys.readouterr().err)
    assert main(["m", "-n", "team", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{other.paths.report}\n"


def test_the_page_of_all_models(tmp_path: Path, capsys: Output) -> None:
    names = ("b-better", "a-worse", "c-failed")
    for name, gain in zip(names, (0.2, -0.1, None), strict=True):
        paths = written(tmp_path, name, at=10)
        wire = json.loads(paths.facts.read_text())
        if gain is not None:
            over = [{"rival": "start", "improvement": gain}, {"rival": "naive", "improvement": -gain}]
            badge = "Better" if gain > 0 else "Worse"
            wire |= {"verdict": {"badge": badge}, "evaluation": {"loss": 2.5, "dates": 40, "comparisons": over}}
        paths.facts.write_text(json.dumps(wire))
    (tmp_path / "models/default/b-better/current.json").write_text('{"run": "run-1"}')
    assert main(["--all", "--root", str(tmp_path)]) == 0
    file = tmp_path / "report.html"
    assert capsys.readouterr().out == f"{file}\n"
    page = file.read_text()
    assert file.read_text() == page and main(["--all", "--root", str(tmp_path)]) == 0 and file.read_text() == page
    links = [one["href"] for tag, one in Read(page).elements if tag == "a"]
    assert sorted(names) == [link.split("/")[2] for link in links] and all(
        (tmp_path / link).is_file() for link in links
    )
    assert_self_contained(re.sub(r' href="models/[^"]*"', "", page))
    # Places of the rows by name, and by the gain over the start, where a failed model comes last in both orders.
    orders = {row: dict(re.findall(r"--(\w+):(\d+)", found)) for row, found in re.findall(r"#m(\d)\{(.*?)\}", page)}
    for place, order in {"a0": "012", "d0": "210", "d3": "102", "a3": "012"}.items():
        assert "".join(orders[row][place] for row in "012") == order, place
    capsys.readouterr()
    assert main(["--all", "--text", "--root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"a-worse +Worse +−10 % +\+10 % +2\.500 +40  no ", lines[1]) and " yes " in lines[2]
    assert all(len(line) <= 96 for line in lines)


def test_a_page_of_models_whose_reports_are_damaged(tmp_path: Path) -> None:
    paths = written(tmp_path, "m", at=10)
    for content in ("[]", '{"verdict": 3, "evaluation": [], "training": [1], "timeframe": null}', "{"):
        paths.facts.write_text(content)
        assert main(["--all", "--root", str(tmp_path)]) == 0
    paths.facts.write_text(json.dumps({"verdict": {"badge": EVIL}, "timeframe": EVIL, "finishedAt": EVIL}))
    assert main(["--all", "--root", str(tmp_path)]) == 0
    assert "<script" not in (tmp_path / "report.html").read_text()
