"""`kronos prune`: old runs go, whole or not at all, and never one that somebody needs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_pointers import HELD, PUBLISHED, MakeRun, Model

from kronos_trainer.collection import __main__ as collection
from kronos_trainer.config import Reuse, RunConfig, StageName, StageResult, WarmStart
from kronos_trainer.storage import durable
from kronos_trainer.storage.lock import model_lock
from kronos_trainer.storage.pointers import runs
from kronos_trainer.storage.publish import is_complete

Output = pytest.CaptureFixture[str]


@pytest.fixture
def model(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model without runs, whose reports are empty pages."""
    blank = SimpleNamespace(write=lambda run, paths, *others: durable.write_text(paths.report, ""))
    monkeypatch.setattr("kronos_trainer.storage.publish.report", blank)
    return Model(make_run)


@pytest.fixture
def runs_of(model: Model) -> dict[str, RunConfig]:
    """Seven runs, a the oldest: b is published, a was before, c is held; g is unfinished, needs d and copies from e."""
    made = {name: model.run(name) for name in "abcdefg"}
    for name, decision in (("a", PUBLISHED), ("b", PUBLISHED), ("c", HELD), ("d", HELD), ("e", HELD), ("f", HELD)):
        model.judge(made[name], decision)
    model.judge(made["c"], HELD)
    files = made["g"].paths().stage(StageName.PREDICTOR)
    files.result.unlink()
    start = WarmStart(run="d", digests=dict.fromkeys(StageName.with_weights(), "0" * 64))
    reuse = Reuse(run="e", hash=made["e"].stage_hashes[StageName.TOKENIZER])
    made["g"].paths().stage(StageName.TOKENIZER).result.unlink()
    waiting = made["g"].model_copy(update={"warm_start": start, "reuse_tokenizer": reuse})
    durable.write_text(files.config, waiting.dump())
    for age, name in enumerate("abcdefg"):
        for path in made[name].paths().run_dir.rglob("*"):
            os.utime(path, (1_000_000 * age, 1_000_000 * age))
    return made


def prune(model: Model, *options: str) -> int:
    return collection.main(["prune", "model-b-1d", "--root", str(model.paths.root), *options])


def test_what_somebody_needs_stays(model: Model, runs_of: dict[str, RunConfig], capsys: Output) -> None:
    assert prune(model, "--keep", "1", "--yes") == 0
    out = capsys.readouterr().out
    said = {line.split()[0]: line.rpartition("  ")[2] for line in out.splitlines()[1:8]}
    assert said == {
        "g": "stays: the newest",
        "f": "goes",
        "e": "stays: run g started from it",
        "d": "stays: run g started from it",
        "c": "stays: candidate",
        "b": "stays: published",
        "a": "stays: published before",
    }
    assert out.splitlines()[-1].startswith("removed 1 run, ")
    assert runs(model.paths) == ["a", "b", "c", "d", "e", "g"]
    assert model.published == "b" and is_complete(runs_of["b"], runs_of["b"].paths())
    # What g has taken over it no longer needs; what it started from it reads again when it is judged once more.
    durable.write_text(
        runs_of["g"].paths().stage(StageName.TOKENIZER).result,
        StageResult(hash=runs_of["e"].stage_hashes[StageName.TOKENIZER]).dump(),
    )
    assert prune(model, "--keep", "1", "--yes") == 0 and runs(model.paths) == ["a", "b", "c", "d", "g"]


def test_it_asks_and_a_training_keeps_it_out(
    model: Model,
    runs_of: dict[str, RunConfig],
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert prune(model, "--keep", "1") == 64
    printed = capsys.readouterr()
    assert "f" in printed.out and "nothing was removed; --yes" in printed.err
    asked: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "n")
    assert prune(model, "--keep", "1") == 0 and asked[0].startswith("Remove 1 run, 0.0 MB? [y/N]")
    with model_lock(model.paths, runs_of["g"]):
        assert prune(model, "--keep", "1", "--yes") == 74
    assert "run g, stage evaluation, attempt 0" in capsys.readouterr().err
    assert prune(model, "--keep", "1", "--root", "s3://bucket/x") == 64
    model.paths.candidate.write_text("{")
    assert prune(model, "--keep", "1", "--yes") == 66
    assert "damaged" in capsys.readouterr().err
    assert runs(model.paths) == list("abcdefg")


def test_a_run_that_came_up_for_removal_meanwhile_was_not_agreed_to(
    model: Model,
    runs_of: dict[str, RunConfig],
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(text: str) -> str:
        model.judge(runs_of["d"], PUBLISHED)  # now b is the one before, and a is no longer
        return "y"

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answer)
    assert prune(model, "--keep", "1") == 74
    assert "changed meanwhile; repeat" in capsys.readouterr().err
    assert runs(model.paths) == list("abcdefg")


def test_after_a_crash_no_half_run_is_left(
    model: Model,
    runs_of: dict[str, RunConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cut(directory: Path) -> None:
        if directory.exists():
            (directory / "f" / "tokenizer" / "best" / "config.json").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(durable, "remove", cut)
    with pytest.raises(KeyboardInterrupt):
        prune(model, "--keep", "1", "--yes")
    assert "f" not in runs(model.paths)
    monkeypatch.undo()
    assert prune(model, "--keep", "2", "--yes") == 0  # none is to go, but for what the crash has left
    assert not [path for path in model.paths.model_dir.rglob("*") if path.name in ("f", ".aside-pruned")]
