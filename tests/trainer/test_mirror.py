"""Results and bars behind URIs: the far side is whole at any moment, and comes back as it went.

The store is obstore's own in memory, which writes on conditions as S3 does; tests/stores has a real server.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from obstore.store import MemoryStore

from kronos_trainer import promotion
from kronos_trainer.backtest import trials
from kronos_trainer.backtest.document import Trial
from kronos_trainer.config import By, Promotion, PromotionResult, Rival, RunConfig, RunPaths, StageName, StageResult
from kronos_trainer.data.fetch import fetch_bars
from kronos_trainer.errors import ConfigError, DataError, InputMissing, Stopped, StorageError
from kronos_trainer.evaluation.document import Reading, Span
from kronos_trainer.evaluation.readings import record
from kronos_trainer.model.directory import weights_digest
from kronos_trainer.storage import durable, pointers, stores
from kronos_trainer.storage.checkpoint import Best, Checkpoints, Meta
from kronos_trainer.storage.lock import model_lock
from kronos_trainer.storage.mirror import Mirror
from kronos_trainer.storage.pointer_copy import PointerCopy
from kronos_trainer.storage.run_storage import Storage
from kronos_trainer.training.distributed import Ranks

MakeRun = Callable[..., RunConfig]

ROOT = "s3://bucket/team"


class Bucket:
    """A store in memory that all clients of a test share. `before` is called with each write and removal to come."""

    def __init__(self) -> None:
        self.objects = MemoryStore()
        self.before: Callable[[str], None] = lambda name: None

    def put(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self.before(name)
        return self.objects.put(name, *args, **kwargs)

    def delete(self, name: str) -> None:
        self.before(name)
        self.objects.delete(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objects, name)

    def names(self) -> list[str]:
        """What there is, sorted."""
        return sorted(item["path"] for chunk in self.objects.list() for item in chunk)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket behind every s3:// URI."""
    bucket = Bucket()
    monkeypatch.setitem(stores._KINDS, "s3", lambda *args, **options: bucket)
    return bucket


def save(paths: RunPaths, step: int, seconds: float = 1.0) -> None:
    meta = Meta(
        step=step, epoch=1, stage_hash="t" * 12, world_size=1, best_step=step, best_loss=0.5, initial_loss=1.0,
        validations_since_best=0, seconds=seconds,
    )  # fmt: skip
    weights = {"weight": torch.full((5,), float(step))}
    Checkpoints(paths.stage(StageName.TOKENIZER)).save(
        weights=weights, optimizer={}, meta=meta, best=Best(weights, meta)
    )


def restored_step(paths: RunPaths) -> int | None:
    restored = Checkpoints(paths.stage(StageName.TOKENIZER)).restore(stage_hash="t" * 12)
    if restored is None:
        return None
    assert restored.skipped is None, "the newest checkpoint that is named is intact"
    assert torch.equal(restored.weights["weight"], torch.full((5,), float(restored.meta.step)))
    return restored.meta.step


def test_another_machine_goes_on_where_this_one_stopped(make_run: MakeRun, bucket: Bucket, tmp_path: Path) -> None:
    run = make_run(output=ROOT)
    mirror = Mirror(run, tmp_path / "a")
    mirror.pull()
    assert restored_step(mirror.paths) is None
    with model_lock(mirror.paths, run):
        mirror.claim()
        for step in (10, 20, 30):
            save(mirror.paths, step)
            mirror.push()
        mirror.paths.stage(StageName.TOKENIZER).best.mkdir()
        (mirror.paths.stage(StageName.TOKENIZER).best / "config.json").write_text("{}")
        mirror.paths.current.write_text('{"run": "run-1"}')
        mirror.push()

    other = Mirror(run, tmp_path / "b")
    other.pull()
    assert restored_step(other.paths) == 30
    assert other.paths.current.read_text() == '{"run": "run-1"}'
    kept = sorted(path.name for path in other.paths.stage(StageName.TOKENIZER).checkpoints.iterdir())
    assert kept == ["step-20", "step-30"], "what was removed here is removed there"
    # A later run reuses only the tokenizer.
    reuse = {"run": "run-1", "hash": "t" * 12}
    later = Mirror(make_run(output=ROOT, run="run-2", stage="predictor", reuse_tokenizer=reuse), tmp_path / "c")
    later.pull()
    assert (later.paths.runs / "run-1" / "tokenizer" / "best" / "config.json").exists()
    assert not (later.paths.runs / "run-1" / "tokenizer" / "checkpoints").exists()


def test_what_the_store_holds_counts_not_what_an_earlier_attempt_left_here(
    make_run: MakeRun, bucket: Bucket, tmp_path: Path
) -> None:
    run = make_run(output=ROOT)
    first = Mirror(run, tmp_path)
    with model_lock(first.paths, run):
        first.claim()
        save(first.paths, 1)
        first.push()
        save(first.paths, 2)  # and never pushed
    again = Mirror(run, tmp_path)
    again.pull()
    assert restored_step(again.paths) == 1
    elsewhere = Mirror(make_run(output="s3://bucket/other"), tmp_path)
    elsewhere.pull()
    assert restored_step(elsewhere.paths) is None, "another place, another copy"


def test_one_process_of_a_machine_has_the_working_copy(make_run: MakeRun, bucket: Bucket, tmp_path: Path) -> None:
    first, second = (Mirror(make_run(output=ROOT), tmp_path) for _ in range(2))
    first.occupy()
    with pytest.raises(StorageError, match=r"another process is writing to .*wait for it or stop it"):
        second.occupy()


def test_a_push_that_is_cut_off_anywhere_leaves_an_intact_checkpoint(
    make_run: MakeRun, bucket: Bucket, tmp_path: Path
) -> None:
    run = make_run(output=ROOT)
    mirror = Mirror(run, tmp_path / "local")
    seen = set()
    with model_lock(mirror.paths, run):
        mirror.claim()
        save(mirror.paths, 1)
        mirror.push()
        for cut in range(1, 40):
            left = iter(range(cut - 1))

            def guard(name: str, left: Any = left) -> None:
                if next(left, None) is None:
                    raise ConnectionError("gone")

            save(mirror.paths, cut + 1)
            bucket.before = guard
            try:
                mirror.push()
                completed = True
            except StorageError as error:
                assert "gone" in str(error)
                completed = False
            bucket.before = lambda name: None
            copy = Mirror(run, tmp_path / f"copy-{cut}")
            copy.pull()
            step = restored_step(copy.paths)
            seen.add(cut + 1 - step if step is not None else None)
            mirror.push()
            if completed:
                break
        else:
            pytest.fail("no push ever completed")
    assert seen == {0, 1}, "a cut push is either the step before or the new one"


def test_what_a_cut_off_push_left_is_not_taken_for_a_later_checkpoint_of_the_same_step(
    make_run: MakeRun, bucket: Bucket, tmp_path: Path
) -> None:
    """Both have the same name and often the same size: only the seconds in meta.json differ."""
    run = make_run(output=ROOT)
    first = Mirror(run, tmp_path / "a")

    def no_pointer(name: str) -> None:
        if name.endswith("checkpoint.json"):
            raise ConnectionError("gone")

    with model_lock(first.paths, run):
        first.claim()
        save(first.paths, 1)
        first.push()
        save(first.paths, 2, seconds=1.25)
        bucket.before = no_pointer
        with pytest.raises(StorageError):
            first.push()
    bucket.before = lambda name: None
    second = Mirror(run, tmp_path / "b")
    second.pull()
    with model_lock(second.paths, run):
        second.claim()
        second.pull()
        save(second.paths, 2, seconds=9.75)
        second.push()
    third = Mirror(run, tmp_path / "c")
    third.pull()
    assert restored_step(third.paths) == 2
    assert any("step-1/" in name for name in bucket.names()), "the one before is kept"


def test_an_attempt_that_was_overtaken_on_another_machine_writes_nothing_more(
    make_run: MakeRun, bucket: Bucket, tmp_path: Path
) -> None:
    old, new = make_run(output=ROOT, attempt=1), make_run(output=ROOT, attempt=2)
    stale, fresh = Mirror(old, tmp_path / "old"), Mirror(new, tmp_path / "new")
    with model_lock(stale.paths, old), model_lock(fresh.paths, new):
        stale.claim()
        save(stale.paths, 1)
        stale.push()
        fresh.claim()
        save(stale.paths, 2)
        with pytest.raises(StorageError, match="attempt 1 exits without writing"):
            stale.push()
        with pytest.raises(StorageError, match="attempt 1 is outdated"):
            stale.claim()
        fresh.pull()
        assert restored_step(fresh.paths) == 1


def test_an_attempt_that_slept_through_being_overtaken_names_none_of_its_checkpoints(
    make_run: MakeRun, bucket: Bucket, tmp_path: Path
) -> None:
    """It passed the check before its push, and wakes in the middle of it."""
    old, new = make_run(output=ROOT, attempt=1), make_run(output=ROOT, attempt=2)
    stale, fresh = Mirror(old, tmp_path / "old"), Mirror(new, tmp_path / "new")
    with model_lock(stale.paths, old), model_lock(fresh.paths, new):
        stale.claim()
        save(stale.paths, 1)
        stale.push()
        save(stale.paths, 2)

        def overtake(name: str) -> None:
            bucket.before = lambda name: None
            fresh.claim()
            fresh.pull()
            for step in (3, 4):
                save(fresh.paths, step)
                fresh.push()

        bucket.before = overtake
        with pytest.raises(StorageError, match="another attempt has taken over"):
            stale.push()
        save(fresh.paths, 5)
        fresh.push()
        other = Mirror(new, tmp_path / "other")
        other.pull()
        assert restored_step(other.paths) == 5


def test_what_an_earlier_attempt_pushes_between_the_look_and_the_claim_is_gone_on_from(
    make_run: MakeRun, bucket: Bucket, tmp_path: Path
) -> None:
    old, new = make_run(output=ROOT, attempt=1), make_run(output=ROOT, attempt=2)
    earlier = Mirror(old, tmp_path / "old")
    with model_lock(earlier.paths, old):
        earlier.claim()
        save(earlier.paths, 1)
        earlier.push()
        storage = Storage(new, Ranks(device=torch.device("cpu")), tmp_path / "new", lambda: None)
        save(earlier.paths, 2)
        earlier.push()
        with storage.held():
            restored = storage.restore()
            assert restored is not None and restored.meta.step == 2
            save(storage.paths, 3)
            storage.push()
        with pytest.raises(StorageError, match="another attempt has taken over"):
            earlier.push()


def test_a_pull_under_which_the_store_changes_brings_one_state_whole(
    make_run: MakeRun, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(output=ROOT)
    writer, reader = Mirror(run, tmp_path / "writer"), Mirror(run, tmp_path / "reader")
    with model_lock(writer.paths, run):
        writer.claim()
        save(writer.paths, 1)
        writer.push()
        steps = [2, 3]  # after these the first checkpoint is there no more

        def listed(prefix: str) -> Any:
            found = list(bucket.objects.list(prefix))
            while steps:
                save(writer.paths, steps.pop(0))
                writer.push()
            return found

        monkeypatch.setattr(bucket, "list", listed, raising=False)
        reader.pull()
    assert restored_step(reader.paths) == 3


def test_of_two_attempts_that_claim_at_once_one_fails(make_run: MakeRun, bucket: Bucket, tmp_path: Path) -> None:
    runs = [make_run(output=ROOT, attempt=attempt) for attempt in (1, 2)]
    lower, higher = (Mirror(run, tmp_path / str(run.attempt)) for run in runs)
    with model_lock(lower.paths, runs[0]), model_lock(higher.paths, runs[1]):

        def meanwhile(name: str) -> None:
            bucket.before = lambda name: None
            higher.claim()

        bucket.before = meanwhile
        with pytest.raises(StorageError, match="another attempt is taking over"):
            lower.claim()
        save(higher.paths, 1)
        higher.push()


def test_bars_are_downloaded_once_per_version(bucket: Bucket, tmp_path: Path) -> None:
    for name in ("daily/us/AAPL.csv", "daily/MSFT.csv", "daily/README.md"):
        bucket.objects.put(f"team/{name}", name.encode())
    cache = tmp_path / "cache"
    beats: list[int] = []
    copy = fetch_bars(f"{ROOT}/daily", cache, lambda: beats.append(1))
    assert sorted(str(file.relative_to(copy)) for file in copy.rglob("*.*")) == ["MSFT.csv", "us/AAPL.csv"]
    assert beats
    stamp = (copy / "MSFT.csv").stat().st_ino
    assert fetch_bars(f"{ROOT}/daily", cache) == copy and (copy / "MSFT.csv").stat().st_ino == stamp
    bucket.objects.put("team/daily/MSFT.csv", b"changed")
    again = fetch_bars(f"{ROOT}/daily", cache)
    assert (again / "MSFT.csv").read_bytes() == b"changed"
    # A single file keeps its name, which is its symbol.
    single = fetch_bars(f"{ROOT}/daily/us/AAPL.csv", cache)
    assert single.name == "AAPL.csv" and single.read_bytes() == b"daily/us/AAPL.csv"


def test_files_of_several_parts_arrive_whole_in_both_directions(
    make_run: MakeRun, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PART", 7)
    content = bytes(range(256))
    (tmp_path / "up").write_bytes(content)
    stores.Store(ROOT).upload(tmp_path / "up", "big.csv", None, lambda: None)
    assert fetch_bars(f"{ROOT}/big.csv", tmp_path / "cache").read_bytes() == content


def test_a_download_that_is_cut_off_is_not_taken_for_the_bars(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        bucket.objects.put(f"team/daily/{name}.csv", name.encode())

    def cut(name: str, **options: Any) -> Any:
        if name.endswith("b.csv"):
            raise ConnectionError("gone")
        return bucket.objects.get(name, **options)

    with monkeypatch.context() as patch:
        patch.setattr(bucket, "get", cut, raising=False)
        with pytest.raises(StorageError, match=r"s3://bucket/team/daily: cannot read: gone"):
            fetch_bars(f"{ROOT}/daily", tmp_path / "cache")
    copy = fetch_bars(f"{ROOT}/daily", tmp_path / "cache")
    assert sorted(file.name for file in copy.iterdir()) == ["a.csv", "b.csv"]


def test_bars_that_change_while_they_are_read_are_not_mixed(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        bucket.objects.put(f"team/daily/{name}.csv", b"old")

    def get(name: str, **options: Any) -> Any:
        bucket.objects.put("team/daily/b.csv", b"new")
        return bucket.objects.get(name, **options)

    with monkeypatch.context() as patch:
        patch.setattr(bucket, "get", get, raising=False)
        with pytest.raises(StorageError, match="another process has written an object in the meantime"):
            fetch_bars(f"{ROOT}/daily", tmp_path)
    copy = fetch_bars(f"{ROOT}/daily", tmp_path)
    assert [(copy / name).read_text() for name in ("a.csv", "b.csv")] == ["old", "new"]


def test_a_stop_during_a_download_is_no_failure_of_the_store(bucket: Bucket, tmp_path: Path) -> None:
    bucket.objects.put("team/daily/a.csv", b"a")

    def stop() -> None:
        raise Stopped("asked to")

    with pytest.raises(Stopped):
        fetch_bars(f"{ROOT}/daily", tmp_path / "cache", stop)


def test_what_cannot_be_used_is_named_with_a_way_out(make_run: MakeRun, bucket: Bucket, tmp_path: Path) -> None:
    bucket.objects.put("team/notes/README.md", b"hello")
    with pytest.raises(InputMissing, match=r"s3://bucket/team/nowhere: nothing found; check the URI"):
        fetch_bars(f"{ROOT}/nowhere", tmp_path)
    with pytest.raises(DataError, match=r"team/notes: no bars here.*found only README.md"):
        fetch_bars(f"{ROOT}/notes", tmp_path)
    for uri in ("nosuch://bucket/x", "s3://", "/data"):
        with pytest.raises(ConfigError, match=r"use s3://, gs://, az:// or hf://"):
            fetch_bars(uri, tmp_path)
    with pytest.raises(ConfigError, match=r"hf://datasets/a/b: results can be stored in s3://, gs:// or az://"):
        Mirror(make_run(output="hf://datasets/a/b"), tmp_path)


@pytest.mark.parametrize("uri", ["s3://AKIA1:hunter2@bucket/x", "az://models/x?sig=hunter2"])
def test_a_uri_with_a_secret_is_refused_without_repeating_it(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must not contain keys or a query") as refused:
        fetch_bars(uri, tmp_path)
    assert "hunter2" not in str(refused.value)


def test_unusable_keys_are_named_and_not_repeated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", '{"private_key": ["hunter2"]}')
    with pytest.raises(InputMissing, match=r"gs://bars/x: one of GOOGLE_SERVICE_ACCOUNT_KEY is missing or mal") as bad:
        fetch_bars("gs://bars/x", tmp_path)
    assert "hunter2" not in str(bad.value)
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(InputMissing, match=r"az://bars/x: one of AZURE_STORAGE_ACCOUNT_NAME and .* is missing"):
        fetch_bars("az://bars/x", tmp_path)


SPAN = Span(start="2024-01-01", end="2024-06-01")
JUDGED = {"tokenizer": "t" * 12, "predictor": "p" * 12, "evaluation": "e" * 12}


def leave_run(mirror: Mirror, run: RunConfig, content: str) -> None:
    """Stand-ins for the results of a run, in a working copy."""
    for stage in StageName.with_weights():
        files = run.paths(mirror.paths.root).stage(stage)
        for name in ("config.json", "model.safetensors"):
            durable.write_text(files.best / name, f"{name} of {content}")
        durable.write_text(files.config, run.dump())
        result = StageResult(stage=stage, hash=JUDGED[stage], run=run.run, digest=weights_digest(files.best))
        durable.write_text(files.result, result.dump())


def tried(run: str) -> Trial:
    """A backtest of a run."""
    return Trial(run=run, hash="e" * 12, strategy="top-k", first=SPAN.start, last=SPAN.end)


def judge(make_run: MakeRun, directory: Path, name: str, decision: str) -> Mirror:
    """What an evaluation of a run leaves behind the URI."""
    run = make_run(output=ROOT, run=name, stage="evaluation", stage_hashes=JUDGED, publish=True)
    mirror = Mirror(run, directory)
    with model_lock(mirror.paths, run):
        mirror.claim()
        mirror.pull()
        paths = mirror.paths
        durable.write_text(paths.backtest.summary, "{}")
        mirror.push()  # before there is a result
        leave_run(mirror, run, name)
        published = pointers.current(paths)
        before = "" if published is None else published.run
        reading = Reading(run=name, hash="e" * 12, span=SPAN)
        record(paths, reading, ["2024-01-02"])
        trials.record(paths.trials, tried(name))
        for file in (paths.calibration, paths.stage(run.stage).evaluation, paths.facts, paths.report):
            durable.write_text(file, "{}")
        decided = PromotionResult(decision=decision, published=before)
        durable.write_text(paths.stage(run.stage).result, StageResult(hash="e" * 12, promotion=decided).dump())
        if decision == "Held":
            pointers.hold(paths, name, published=before, message="p 0.3")
        else:
            found = {stage: paths.stage(stage).completed() for stage in run.stages}
            results = {stage: result for stage, result in found.items() if result is not None}
            pointers.publish(paths, pointers.document(paths, run, results), By.GATE)
        mirror.push()
    return mirror


def test_what_an_evaluation_leaves_arrives_in_an_order_that_names_nothing_absent(
    make_run: MakeRun, bucket: Bucket, tmp_path: Path
) -> None:
    written: list[str] = []
    bucket.before = lambda name: written.append(name.removeprefix("team/models/default/model-b-1d/"))
    judge(make_run, tmp_path / "a", "run-1", "Published")
    order = [
        "calibration.json", "evaluation.json", "readings.json", "trials.json", "result.json", "report.json",
        "report.html", "current.json",
    ]  # fmt: skip
    small = [name.rpartition("/")[2] for name in written if name.startswith("runs/run-1/evaluation") or "/" not in name
             or name.count("/") == 2 or "backtest" in name]  # fmt: skip
    assert [name for name in small if name in order] == order
    written.clear()
    judge(make_run, tmp_path / "b", "run-2", "Held")
    assert written[-1] == "candidate.json" and "current.json" not in written
    assert "runs/run-1/evaluation/result.json" not in written


def test_an_evaluation_elsewhere_has_the_published_run_and_all_readings_and_trials_at_hand(
    make_run: MakeRun, bucket: Bucket, tmp_path: Path
) -> None:
    judge(make_run, tmp_path / "a", "run-1", "Published")
    held = judge(make_run, tmp_path / "b", "run-2", "Held").paths
    published = held.runs / "run-1"
    assert (published / "predictor" / "best" / "model.safetensors").read_text() == "model.safetensors of run-1"
    assert (published / "predictor" / "result.json").exists() and (published / "calibration.json").exists()
    third = make_run(output=ROOT, run="run-3", stage="evaluation", stage_hashes=JUDGED, publish=True)
    mirror = Mirror(third, tmp_path / "c")
    mirror.pull()
    reading = Reading(run="run-3", hash="e" * 12, span=SPAN)
    assert [one.run for one in record(mirror.paths, reading, ["2024-01-02"])] == ["run-1", "run-2", "run-3"]
    counted = trials.record(mirror.paths.trials, tried("run-3"))
    assert [one.run for one in counted] == ["run-1", "run-2", "run-3"] and trials.count(counted, ()) == 3
    assert "team/backtest_results/model-b-1d/trials.json" in bucket.names()
    mirror.pull()  # what was counted here and never arrived there is not counted
    assert [one.run for one in trials.record(mirror.paths.trials, tried("run-2"))] == ["run-1", "run-2"]
    assert pointers.resolve(mirror.paths, "candidate") == "run-2"
    # Its report speaks of its backtest, on whichever machine it is written.
    again = Mirror(make_run(output=ROOT, run="run-2", stage="evaluation", stage_hashes=JUDGED), tmp_path / "e")
    again.pull()
    assert again.paths.backtest.summary.read_text() == "{}" and not mirror.paths.backtest.summary.exists()
    alone = third.model_copy(update={"promotion": Promotion(against=[Rival.START])})
    other = Mirror(alone, tmp_path / "d")
    other.pull()
    assert not (other.paths.runs / "run-1" / "predictor").exists(), "what nobody compares with stays there"


def test_a_pointer_behind_a_uri_is_moved_without_disturbing_a_training_and_of_two_movers_one_fails(
    make_run: MakeRun,
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, decision in (("run-1", "Published"), ("run-2", "Held")):
        judge(make_run, tmp_path / name, name, decision)
    training = Mirror(make_run(output=ROOT, run="run-3"), tmp_path / "c")
    with model_lock(training.paths, make_run(run="run-3")):
        training.claim()
        training.pull()
        command = ["--root", ROOT, "--model", "model-b-1d"]
        assert promotion.main(["promote", *command]) == 0
        assert "run run-2 is published now, instead of run-1" in capsys.readouterr().out
        save(training.paths, 10)
        training.push()
        # What it would publish was compared with another run: it is refused, and judged again by the next attempt.
        durable.write_text(training.paths.current, '{"run": "run-3"}')
        with pytest.raises(StorageError, match="an object has changed since its last write"):
            training.push()
    again = judge(make_run, tmp_path / "d", "run-4", "Held").paths
    assert pointers.resolve(again, "published") == "run-2" and pointers.resolve(again, "previous") == "run-1"
    assert promotion.main(["rollback", *command, "--published", "run-2"]) == 0
    assert promotion.main(["rollback", *command, "--published", "run-2"]) == 0
    names = bucket.names()

    fetch = PointerCopy.fetch

    def overtaken(copy: PointerCopy, run: str) -> None:
        fetch(copy, run)
        bucket.objects.put("team/models/default/model-b-1d/current.json", b'{"run": "run-9"}')

    with monkeypatch.context() as patch:
        patch.setattr(PointerCopy, "fetch", overtaken)
        assert promotion.main(["promote", *command, "--run", "run-2"]) == 74
    assert "another run was published; look again, and repeat the command" in capsys.readouterr().err
    bucket.objects.put("team/models/default/model-b-1d/runs/run-2/predictor/best/config.json", b"other")
    assert promotion.main(["promote", *command, "--run", "run-2"]) == 66
    assert promotion.main(["promote", *command, "--run", "run-8"]) == 66
    assert promotion.main(["promote", "--root", ROOT, "--model", "other"]) == 66
    assert bucket.names() == names
