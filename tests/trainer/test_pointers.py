"""Which run is published: what the gate has decided is carried out, what somebody sets by hand stays, and a crash
between any two writes leaves a state that is understood and that a repetition finishes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kronos_operator.cli import main
from kronos_trainer import load, promotion
from kronos_trainer.config import (
    BarsRead,
    Decision,
    PromotionResult,
    RunConfig,
    RunPaths,
    StageName,
    StagePaths,
    StageResult,
)
from kronos_trainer.errors import ConfigError, InputMissing, StorageError
from kronos_trainer.forecast.__main__ import main as forecast
from kronos_trainer.forecast.published import published_weights
from kronos_trainer.model.directory import weights_digest
from kronos_trainer.storage import durable
from kronos_trainer.storage.lock import model_lock
from kronos_trainer.storage.pointers import Moved, current, promote, resolve, rollback
from kronos_trainer.storage.publish import finish_scores, is_complete, settle

MakeRun = Callable[..., RunConfig]


BARS = BarsRead(spans={"test": ("2023-01-01T00:00:00", "2024-01-01T00:00:00")})


class Model:
    """A model whose runs have stand-ins for weights; `make_run` says where."""

    def __init__(self, make_run: MakeRun) -> None:
        self._make_run = make_run

    @property
    def paths(self) -> RunPaths:
        """Its files; those of no run."""
        return self._make_run(run="none").paths()

    def run(self, name: str, *, evaluated: str | None = "e1") -> RunConfig:
        """The last stage of a run, an evaluation of that hash or the predictor, with its weights in place."""
        hashes = {"tokenizer": f"t-{name}-123456", "predictor": f"p-{name}-123456"}
        if evaluated is not None:
            hashes["evaluation"] = f"{evaluated}-{name}-123456"
        run = self._make_run(run=name, stage=list(hashes)[-1], stage_hashes=hashes, publish=True)
        for stage in StageName.with_weights():
            files = run.paths().stage(stage)
            files.best.mkdir(parents=True, exist_ok=True)
            for part in ("config.json", "model.safetensors"):
                (files.best / part).write_text(f"{part} of {name} {stage}")
            result = StageResult(
                stage=stage, hash=hashes[stage], run=name, data=BARS, digest=weights_digest(files.best), bytes=64
            )
            durable.write_text(files.config, run.dump())
            if stage is not run.stage:
                durable.write_text(files.result, result.dump())
        return run

    def judge(self, run: RunConfig, decision: Decision) -> None:
        """What an evaluation does at its end."""
        durable.write_text(run.paths().stage(run.stage).config, run.dump())
        promotion = PromotionResult(decision=decision, message="p 0.3", published=self.published)
        finish_scores(run, run.paths(), StageResult(scores={"crps": 1.0}, promotion=promotion))

    def again(self, run: RunConfig) -> str:
        """What a repetition of a run's last stage does."""
        before = tree(self.paths.model_dir)
        complete = is_complete(run, run.paths())
        if settle(run, run.paths()) is None:
            return "judges again"
        changed = tree(self.paths.model_dir) != before
        assert complete is not changed, "it is complete where nothing is left to do"
        assert is_complete(run, run.paths())
        return "changes" if changed else "nothing"

    @property
    def published(self) -> str:
        """The run that is published, after a check that everything that current.json names is there."""
        if not self.paths.current.exists():
            return ""
        found = json.loads(self.paths.current.read_text())
        for stage in StageName.with_weights():
            best = self.paths.model_dir / found[stage]["path"]
            assert best == self.paths.runs / found["run"] / stage / "best"
            assert found[stage]["digest"] == weights_digest(best)
        return str(found["run"])

    def alias(self, name: str) -> str:
        """The run that an alias means, empty for none."""
        try:
            return resolve(self.paths, name)
        except InputMissing:
            return ""


@pytest.fixture
def model(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model without runs, whose reports are empty pages."""
    blank = SimpleNamespace(write=lambda run, paths, *others: durable.write_text(paths.report, ""))
    monkeypatch.setattr("kronos_trainer.storage.publish.report", blank)
    return Model(make_run)


def tree(directory: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in sorted(directory.rglob("*"))
        if path.name != "lock.flock"
    }


PUBLISHED, HELD = Decision.PUBLISHED, Decision.HELD


def test_a_published_run_becomes_current_and_the_one_before_previous(model: Model) -> None:
    a, b = model.run("a"), model.run("b")
    a.paths().calibration.write_text("{}")
    model.judge(a, PUBLISHED)
    first = json.loads(model.paths.current.read_text())
    assert (first["run"], first["by"], first["calibration"]) == ("a", "gate", "runs/a/calibration.json")
    assert "previous" not in first and first["evaluation"] == {"hash": a.stage_hashes[a.stage]}
    model.judge(b, PUBLISHED)
    second = json.loads(model.paths.current.read_text())
    assert (second["run"], second["previous"], second["by"]) == ("b", "a", "gate") and "calibration" not in second
    assert (model.alias("published"), model.alias("previous"), model.alias("candidate")) == ("b", "a", "")
    assert model.again(b) == "nothing"
    assert b.paths().report.is_file()


def test_a_held_run_is_the_candidate_and_repeating_it_changes_nothing(model: Model) -> None:
    a, b = model.run("a"), model.run("b")
    model.judge(a, PUBLISHED)
    model.judge(b, HELD)
    held = json.loads(model.paths.candidate.read_text())
    assert (held["run"], held["published"], held["message"]) == ("b", "a", "p 0.3")
    assert (model.published, model.alias("candidate"), model.alias("previous")) == ("a", "b", "")
    assert b.paths().report.is_file()
    assert model.again(b) == "nothing"
    assert model.again(a) == "nothing"
    # Another one is held later; the candidate is the one that was asked for last.
    c = model.run("c")
    model.judge(c, HELD)
    assert model.alias("candidate") == "c"
    assert model.again(b) == "changes" and model.alias("candidate") == "b"
    # A third replaces what both were held against.
    model.judge(model.run("d"), PUBLISHED)
    assert model.alias("candidate") == ""


def test_a_first_run_can_be_held(model: Model) -> None:
    a = model.run("a")
    model.judge(a, HELD)
    assert (model.published, model.alias("candidate")) == ("", "a")
    assert model.again(a) == "nothing"
    with pytest.raises(InputMissing, match=r"not published .*run a was judged and held: .*`kronos promote model-b-1d`"):
        resolve(model.paths, "published")
    assert promote(model.paths).run == "a"
    assert (model.published, model.alias("candidate")) == ("a", "")
    assert model.again(a) == "nothing"


def test_what_was_rolled_back_by_hand_is_not_published_again_until_a_run_is_judged_anew(model: Model) -> None:
    a, b = model.run("a"), model.run("b")
    model.judge(a, PUBLISHED)
    model.judge(b, PUBLISHED)
    assert rollback(model.paths) == Moved("a", "b", weights_of(model, "a"))
    found = json.loads(model.paths.current.read_text())
    assert (found["run"], found["previous"], found["by"]) == ("a", "b", "rollback")
    assert model.again(b) == "nothing" and model.again(a) == "nothing"
    # Also after other runs were published by hand in between.
    model.judge(model.run("c"), HELD)
    assert model.published == "a" and model.alias("candidate") == "c"
    assert promote(model.paths, "c").before == "a"
    assert model.again(b) == "nothing"
    assert rollback(model.paths).run == "a"
    assert model.again(b) == "nothing"
    # The same weights judged with other settings, and a new run, count again.
    changed = model.run("b", evaluated="e2")
    assert settle(changed, changed.paths()) is None
    model.judge(changed, PUBLISHED)
    assert (model.published, json.loads(model.paths.current.read_text())["by"]) == ("b", "gate")
    assert model.again(changed) == "nothing"


def test_rolling_back_twice_comes_back(model: Model) -> None:
    with pytest.raises(InputMissing, match="no other run published before"):
        model.paths.model_dir.mkdir(parents=True)
        rollback(model.paths)
    model.judge(model.run("a"), PUBLISHED)
    with pytest.raises(InputMissing, match="no other run published before"):
        rollback(model.paths)
    model.judge(model.run("b"), PUBLISHED)
    assert [rollback(model.paths).run for _ in range(3)] == ["a", "b", "a"]
    # The same request twice, as a pod that was killed too late repeats it.
    assert rollback(model.paths, published="a") == Moved("b", "a", weights_of(model, "b"))
    assert rollback(model.paths, published="a") == Moved("b", "b", weights_of(model, "b"))


def test_a_reverted_spec_is_judged_beside_what_is_published_now(model: Model) -> None:
    a, b = model.run("a"), model.run("b")
    model.judge(a, PUBLISHED)
    model.judge(b, PUBLISHED)
    assert model.again(a) == "judges again"
    assert model.published == "b", "nothing moves before it is judged"
    model.judge(a, HELD)
    assert (model.published, model.alias("candidate"), model.again(a)) == ("b", "a", "nothing")
    c = model.run("c")
    model.judge(c, HELD)
    model.judge(model.run("d"), PUBLISHED)
    assert model.again(c) == "judges again", "a held run as well"


def test_without_an_evaluation_a_run_is_published_directly_unless_that_was_undone_by_hand(model: Model) -> None:
    a, b = model.run("a", evaluated=None), model.run("b", evaluated=None)
    for run in (a, b):
        result = StageResult(digest=weights_digest(run.paths().stage(run.stage).best), stage="predictor")
        durable.write_text(run.paths().stage(run.stage).config, run.dump())
        finish_scores(run, run.paths(), result)
    assert model.published == "b" and json.loads(model.paths.current.read_text())["by"] == "training"
    assert model.again(a) == "changes" and model.published == "a"
    rollback(model.paths)
    assert model.again(a) == "nothing" and model.published == "b"


def test_a_run_that_an_older_release_has_published_stays_published_whatever_its_verdict(model: Model) -> None:
    a, candidate = model.run("a"), model.run("c")
    without = model.run("a", evaluated=None)
    durable.write_text(
        without.paths().stage(without.stage).result,
        StageResult(
            hash=without.stage_hashes[without.stage],
            digest=weights_digest(a.paths().stage(StageName("predictor")).best),
        ).dump(),
    )
    assert settle(without, without.paths()) is not None
    found = json.loads(model.paths.current.read_text())
    del found["by"]
    durable.write_json(model.paths.current, found)
    model.judge(candidate, HELD)
    assert not is_complete(a, a.paths()) and settle(a, a.paths()) is None, "it has no evaluation yet"
    model.judge(a, PUBLISHED)  # as the gate decides about the published run
    assert model.published == "a" and model.again(a) == "nothing"
    after = json.loads(model.paths.current.read_text())
    assert after == found | {"evaluation": {"hash": a.stage_hashes[a.stage]}}, "who has published it and when stays"
    assert model.alias("candidate") == "c"


def weights_of(model: Model, run: str) -> dict[StageName, StageResult | None]:
    return {stage: StagePaths(model.paths.runs / run / stage).completed() for stage in StageName.with_weights()}


def test_any_complete_run_can_be_promoted_and_again(model: Model) -> None:
    for name, decision in (("a", PUBLISHED), ("b", HELD), ("c", PUBLISHED)):
        model.judge(model.run(name), decision)
    assert promote(model.paths, "b") == Moved("b", "c", weights_of(model, "b"))
    before = tree(model.paths.model_dir)
    assert promote(model.paths, "b") == Moved("b", "b", weights_of(model, "b"))
    assert promote(model.paths, "published") == Moved("b", "b", weights_of(model, "b"))
    assert tree(model.paths.model_dir) == before
    assert promote(model.paths, "previous").run == "c"
    # The candidate, twice: the second time it is published already.
    model.judge(model.run("d"), HELD)
    assert promote(model.paths) == Moved("d", "c", weights_of(model, "d"))
    assert promote(model.paths) == Moved("d", "d", weights_of(model, "d"))


def test_what_cannot_be_promoted_is_said_and_the_pointer_stays(model: Model) -> None:
    a, b = model.run("a"), model.run("b")
    model.judge(a, PUBLISHED)
    model.judge(b, HELD)
    with pytest.raises(InputMissing, match=r"has no run x; its runs: a, b, or one of published, previous, candidate"):
        promote(model.paths, "x")
    with pytest.raises(InputMissing, match=r"has no run \.\./\.\./other"):
        promote(model.paths, "../../other")
    weights = b.paths().stage(StageName("predictor"))
    content = (weights.best / "model.safetensors").read_bytes()
    (weights.best / "model.safetensors").write_bytes(content[:-1])
    with pytest.raises(InputMissing, match=r"predictor/best does not contain the weights that .*result.json describes"):
        promote(model.paths)
    (weights.best / "model.safetensors").unlink()
    with pytest.raises(InputMissing, match=r"model\.safetensors: no such file"):
        promote(model.paths)
    weights.result.unlink()
    with pytest.raises(InputMissing, match=r"run b is not complete: it has no weights of the predictor .*runs: a, b"):
        promote(model.paths)
    assert model.published == "a" and current(model.paths).by == "gate"  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"run": 7}', "\xff"])
def test_a_damaged_pointer_is_an_error_whose_way_out_works(model: Model, text: str) -> None:
    a, b = model.run("a"), model.run("b")
    model.judge(a, PUBLISHED)
    model.judge(b, HELD)
    model.paths.current.write_bytes(text.encode("latin-1"))
    out = r"current\.json: damaged; .*`kronos promote model-b-1d RUN`; its runs: a, b"
    for attempt in (
        lambda: is_complete(b, b.paths()),
        lambda: settle(b, b.paths()),
        lambda: promote(model.paths),
        lambda: rollback(model.paths),
        lambda: resolve(model.paths, "published"),
    ):
        with pytest.raises(InputMissing, match=out):
            attempt()
    assert promote(model.paths, "a") == Moved("a", "", weights_of(model, "a"))
    assert model.published == "a" and model.again(a) == "nothing" and model.again(b) == "nothing"
    model.paths.candidate.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputMissing, match=r"candidate\.json: damaged; remove it.*its runs: a, b"):
        promote(model.paths)
    assert promote(model.paths, "b").run == "b"


def test_neither_a_command_nor_a_second_evaluation_moves_a_pointer_while_one_is_judged(model: Model) -> None:
    a, b = model.run("a"), model.run("b")
    model.judge(a, PUBLISHED)
    model.judge(b, PUBLISHED)
    before = model.paths.current.read_bytes()
    with model_lock(a.paths(), a):
        holder = r"run a, stage evaluation, attempt 0 .* is writing to .*wait for it or stop it first"
        for command in (lambda: promote(model.paths, "a"), lambda: rollback(model.paths)):
            with pytest.raises(StorageError, match=holder):
                command()
        with pytest.raises(StorageError, match=holder), model_lock(b.paths(), b):
            pass
    assert model.paths.current.read_bytes() == before
    assert rollback(model.paths).run == "a", "the lock is free again"
    assert json.loads(model.paths.lock.read_text())["run"] == "a", "a command does not hide a late attempt"


def commanded(model: Model, *command: str) -> int:
    here = ("--root", str(model.paths.root), "--model", "model-b-1d")
    return promotion.main([command[0], *here, *command[1:]])


def test_the_command_says_what_it_did_and_leaves_it_for_the_operator(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tmp_path / "termination-log"
    monkeypatch.setenv("KRONOS_TERMINATION_LOG", str(words))
    for name, decision in (("a", PUBLISHED), ("b", HELD)):
        model.judge(model.run(name), decision)

    def left() -> dict[str, Any]:
        found = json.loads(words.read_text())
        assert found.pop("kronos") == 1 and found.pop("time")
        return dict(found)

    best = {stage: model.paths.runs / "b" / stage / "best" for stage in ("tokenizer", "predictor")}
    assert commanded(model, "promote") == 0
    message = "model-b-1d: run b is published now, instead of a"
    assert capsys.readouterr().out == f"{message}\n"
    assert left() == {
        "event": "pointer", "run": "b", "previous": "a",
        "digests": {stage: weights_digest(directory) for stage, directory in best.items()},
        "hashes": {"tokenizer": "t-b-123456", "predictor": "p-b-123456"},
        "bytes": dict.fromkeys(best, 64), "dataThrough": dict.fromkeys(best, "2023-12-31"),
        "message": message,
    }  # fmt: skip
    assert commanded(model, "promote", "--run", "b") == 0
    assert "run b is published already; nothing was changed" in capsys.readouterr().out
    assert commanded(model, "rollback", "--published", "b") == 0
    assert commanded(model, "rollback", "--published", "b") == 0 and model.published == "a"
    assert left()["run"] == left()["previous"] == "a"
    capsys.readouterr()
    assert commanded(model, "promote", "--run", "x") == 66
    assert capsys.readouterr().err.startswith("error: model model-b-1d has no run x; its runs: a, b")
    assert (left()["event"], left()["exitCode"]) == ("error", 66)
    with model_lock(model.paths, model.run("a")):
        assert commanded(model, "rollback") == 74
    assert (left()["exitCode"], left()["cause"]) == (74, "Occupied")
    current_file = model.paths.current.read_text()
    model.paths.current.unlink()
    model.paths.current.mkdir()
    assert commanded(model, "rollback") == 74
    assert re.search(r"Is a directory: .*current\.json'; check the permissions", left()["message"])
    model.paths.current.rmdir()
    model.paths.current.write_text(current_file)
    assert promotion.main(["promote", "--root", str(model.paths.root), "--model", "other"]) == 66
    assert "no model other in namespace default of" in left()["message"]
    assert "models there: model-b-1d" in left()["message"] and not (model.paths.model_dir.parent / "other").exists()
    assert promotion.main(["promote", "--root", str(model.paths.root), "--model", "../x"]) == 64


def test_kronos_promote_and_rollback(
    model: Model, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KRONOS_OUTPUT_PATH", str(model.paths.root))
    for name, decision in (("a", PUBLISHED), ("b", HELD)):
        model.judge(model.run(name), decision)
    assert main(["promote", "model-b-1d", "b"]) == 0
    assert capfd.readouterr().out == "model-b-1d: run b is published now, instead of a\n"
    assert main(["rollback", "model-b-1d", "-n", "default"]) == 0 and model.published == "a"
    assert main(["promote", "model-b-1d"]) == 0 and model.published == "b"
    assert main(["promote", "model-b-1d", "x"]) == 66


def test_forecasts_take_any_run_by_its_id_or_alias(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = model.paths.root
    model.judge(model.run("a"), HELD)
    not_yet = r"not published .*its run a was judged and held: .*`kronos promote model-b-1d`, or use it .*run candidate"
    with pytest.raises(InputMissing, match=not_yet):
        published_weights(root, None, "model-b-1d")
    assert published_weights(root, None, "model-b-1d", "candidate").tokenizer == model.paths.runs / "a/tokenizer/best"
    for name, decision in (("b", PUBLISHED), ("c", PUBLISHED), ("d", HELD)):
        model.judge(model.run(name), decision)
    monkeypatch.setattr("kronos_trainer.forecast.command.write_forecast", lambda request: requests.append(request))
    monkeypatch.setattr("kronos_trainer.forecast.nets.forecaster_of", lambda weights, **options: weights)
    monkeypatch.setenv("KRONOS_OUTPUT_PATH", str(root))
    (tmp_path / "bars.csv").write_text("timestamps,open\n")
    requests: list[Any] = []
    for name, run in {"published": "c", "previous": "b", "candidate": "d", "a": "a"}.items():
        loaded: Any = load("model-b-1d", run=name)
        files = ["--root", str(root), "--input", str(tmp_path / "bars.csv"), "--output", str(tmp_path / "out.csv")]
        assert forecast([*files, "--model", "model-b-1d", "--run", name]) == 0
        for weights in (loaded, requests[-1].weights):
            assert weights.predictor == model.paths.runs / run / "predictor" / "best"
            assert weights.window is not None and weights.window.lookback == 12
    with pytest.raises(InputMissing, match="has no run x; its runs: a, b, c, d, or one of published, previous"):
        load("model-b-1d", run="x")
    with pytest.raises(InputMissing, match="model model-c is not published"):
        load("model-c", run="candidate")
    with pytest.raises(ConfigError, match="pass the model's name"):
        load(model.paths.model_dir, run="candidate")
    assert forecast([*files, "--tokenizer", "t", "--predictor", "p", "--run", "candidate"]) == 64
    assert "--run names a run of --model" in capsys.readouterr().err


class Killed(BaseException):
    """A process that is killed between two steps."""


def cuts(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> Iterator[bool]:
    """Does the work again and again, killed before its first, second, ... write; yields whether it was killed."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for failing in range(1, 50):
        left = iter(range(failing - 1))

        def cut(real: Callable[..., Any], left: Iterator[int] = left) -> Callable[..., Any]:
            def guarded(*args: Any, **kwargs: Any) -> Any:
                if next(left, None) is None:
                    raise Killed
                return real(*args, **kwargs)

            return guarded

        killed = False
        with monkeypatch.context() as patch:
            for name in ("rename", "replace", "unlink", "mkdir"):
                patch.setattr(os, name, cut(getattr(os, name)))
            try:
                work()
            except Killed:
                killed = True
        yield killed
        if not killed:
            return


@pytest.mark.parametrize("decision", list(Decision))
@pytest.mark.parametrize("published", ["", "a", "b"])
def test_a_crash_between_any_two_writes_of_an_evaluation_is_finished_by_repeating_it(
    model: Model, monkeypatch: pytest.MonkeyPatch, decision: Decision, published: str
) -> None:
    if published:
        model.judge(model.run(published), PUBLISHED)
    before = {path: path.read_bytes() for path in (model.paths.current, model.paths.candidate) if path.exists()}
    b = model.run("b", evaluated="e2")
    held = decision is HELD and published != "b"
    times = 0

    def reset() -> None:
        for path in (b.paths().stage(b.stage).result, model.paths.current, model.paths.candidate):
            path.unlink(missing_ok=True)
        for path, content in before.items():
            path.write_bytes(content)
        b.paths().report.write_text("of an earlier result")

    reset()
    # Of the published run the gate decides that it stays.
    for killed in cuts(monkeypatch, lambda: model.judge(b, HELD if held else PUBLISHED)):
        times += killed
        assert model.published in (published, published if held else "b")
        assert model.alias("candidate") in ("", "b" if held else "")
        if settle(b, b.paths()) is None:
            assert model.published == published
            model.judge(b, HELD if held else PUBLISHED)
        assert model.published == (published if held else "b")
        assert model.alias("candidate") == ("b" if held else "")
        assert b.paths().report.read_text() != "of an earlier result"
        assert model.again(b) == "nothing"
        reset()
    assert times >= 4


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_a_crash_anywhere_in_a_command_is_finished_by_repeating_it(
    model: Model, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for name, decision in (("a", PUBLISHED), ("b", PUBLISHED), ("c", HELD)):
        model.judge(model.run(name), decision)
    before = model.paths.current.read_bytes()
    times = 0

    def move() -> Moved:
        return promote(model.paths) if command == "promote" else rollback(model.paths, published="b")

    for killed in cuts(monkeypatch, move):
        times += killed
        wanted = "c" if command == "promote" else "a"
        assert model.published in ("b", wanted)
        assert move().run == wanted == model.published
        assert model.alias("previous") == "b"
        model.paths.current.write_bytes(before)
    assert times >= 1
