"""Bars and results in a real S3 server: what is promised of them when machines, networks, keys and buckets fail.

`make test-cluster` builds the server and runs these.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

# The support module beside this file; pytest's importlib mode leaves it out of the path.
sys.path.insert(0, str(Path(__file__).parent))

from s3_server import ACCESS_KEY, SECRET_KEY, Proxy, S3Server

from kronos_trainer.config import RunConfig, StageName, StageResult
from kronos_trainer.data.fetch import fetch_bars
from kronos_trainer.errors import InputMissing, StorageError
from kronos_trainer.storage import stores
from kronos_trainer.storage.lock import model_lock
from kronos_trainer.storage.mirror import Mirror
from kronos_trainer.storage.stores import Changed, Store

pytestmark = pytest.mark.cluster

MakeRun = Callable[..., RunConfig]
RunGang = Callable[..., Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server."""
    with S3Server(tmp_path_factory.mktemp("buckets")) as server:
        yield server


@pytest.fixture
def bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The directory of an empty bucket, which bears its name; this process has the keys."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    bucket = server.root / f"bucket-{time.monotonic_ns()}"
    bucket.mkdir()
    return bucket


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not answer is given up after two seconds instead of sixty."""
    monkeypatch.setitem(stores.RETRY, "retry_timeout", timedelta(seconds=2))


class Machine:
    """A trainer's process on a machine of its own: nothing is cached there at first."""

    def __init__(self, directory: Path, run: RunConfig, environment: dict[str, str]) -> None:
        directory.mkdir()
        self._directory = directory
        config = directory / "run.json"
        config.write_text(run.dump())
        with (directory / "stdout").open("w") as stdout, (directory / "stderr").open("w") as stderr:
            self.process = subprocess.Popen(
                # Its clock ticks by itself, so that checkpoints fall at the same steps however slow this machine is.
                [sys.executable, str(Path(__file__).with_name("faulty_rank.py")), "--run", str(config)],
                env=os.environ
                | environment
                | {"TMPDIR": str(directory), "OMP_NUM_THREADS": "1", "RANK": "0", "TICK": "1"},
                stdout=stdout,
                stderr=stderr,
            )

    def end(self, timeout: float = 300) -> int:
        """Waits for its exit code."""
        return self.process.wait(timeout)

    def text(self, name: str) -> str:
        """What it wrote to stdout or stderr."""
        return (self._directory / name).read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text("stdout").splitlines()]

    @property
    def began_at(self) -> int:
        """The step with which training began."""
        return next(event["step"] for event in self.events if event.get("phase") == "training")


StartMachine = Callable[..., Machine]


@pytest.fixture
def machine(server: S3Server, tmp_path: Path) -> Iterator[StartMachine]:
    """Starts the trainer on a new machine. `port` is what it takes for the store's."""
    started: list[Machine] = []

    def start(run: RunConfig, port: int | None = None, **environment: str) -> Machine:
        directory = tmp_path / f"machine-{len(started)}"
        started.append(Machine(directory, run, server.environment(port) | environment))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()


@pytest.fixture(scope="module")
def undisturbed(
    server: S3Server, tmp_path_factory: pytest.TempPathFactory, trainable_in: Callable[[Path], MakeRun]
) -> StageResult:
    """Result of the tokenizer stage on a plain disk."""
    directory = tmp_path_factory.mktemp("undisturbed")
    run = trainable_in(directory)()
    alone = Machine(directory / "machine", run, {})
    assert alone.end() == 0, alone.text("stderr")
    result = run.paths().stage(StageName.TOKENIZER).completed()
    assert result is not None
    return result


def in_store(bucket: Path, run: RunConfig) -> Any:
    """Files of the run's stage in the bucket."""
    return run.paths(bucket).stage(run.stage)


def test_bars_come_from_a_file_or_from_a_directory_with_any_names(bucket: Path, tmp_path: Path) -> None:
    names = ["^GSPC.csv", "BRK#B.csv", "100%.csv", "us/BTC~USD.parquet", "a b/ü*.tsv", "deep/er/x.csv.gz"]
    store = Store(f"s3://{bucket.name}/bars")
    for name in [*names, "notes.txt", ".hidden.csv", "_drafts/x.csv"]:
        (tmp_path / "content").write_text(name)
        store.upload(tmp_path / "content", name, None, lambda: None)
    copy = fetch_bars(f"s3://{bucket.name}/bars", tmp_path / "cache")
    found = {str(path.relative_to(copy)): path.read_text() for path in copy.rglob("*") if path.is_file()}
    assert found == {name: name for name in names}
    for name in names:
        single = fetch_bars(f"s3://{bucket.name}/bars/{name}", tmp_path / "cache")
        assert (single.name, single.read_text()) == (Path(name).name, name)


def test_both_stages_train_on_different_machines_and_no_secret_is_written_anywhere(
    bucket: Path, trainable: MakeRun, bars_file: Path, undisturbed: StageResult, machine: StartMachine
) -> None:
    (bucket / "bars").mkdir()
    (bucket / "bars" / "bars.csv").write_bytes(bars_file.read_bytes())
    places = {"bars": f"s3://{bucket.name}/bars", "output": f"s3://{bucket.name}/results"}
    run = trainable(**places)
    first = machine(run)
    assert first.end() == 0, first.text("stderr")
    last = trainable(**places, stage="predictor", publish=True, predictor={"epochs": 1})
    second = machine(last)
    assert second.end() == 0, second.text("stderr")

    paths = run.paths(bucket / "results")
    assert in_store(bucket / "results", run).completed().digest == undisturbed.digest
    current = json.loads(paths.current.read_text())
    for stage in StageName.with_weights():
        assert (paths.model_dir / current[stage.value]["path"] / "model.safetensors").exists()
    before = sorted((path, path.stat().st_mtime_ns) for path in bucket.rglob("*") if path.is_file())
    again = machine(last)
    assert again.end() == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in bucket.rglob("*") if path.is_file()) == before

    written = [path.read_bytes() for path in [*bucket.rglob("*")] if path.is_file()]
    told = [one.text(name).encode() for one in (first, second, again) for name in ("stdout", "stderr")]
    assert not any(key.encode() in text for text in [*written, *told] for key in (SECRET_KEY, ACCESS_KEY))


def test_two_ranks_share_the_copy_of_their_node(bucket: Path, trainable: MakeRun, run_gang: RunGang) -> None:
    run = trainable(output=f"s3://{bucket.name}")
    stopped = run_gang(run, FAULT="term@1:20")
    assert stopped.code == 75, stopped.stderr
    again = run_gang(run.model_copy(update={"attempt": 1}))
    assert again.code == 0, again.stderr
    began = next(event["step"] for event in again.events if event.get("phase") == "training")
    assert began > 0 and in_store(bucket, run).completed().world_size == 2


@pytest.mark.parametrize(
    "request_head",
    [
        "PUT /.*/checkpoints/step-46/optimizer",
        "PUT /.*/checkpoints/step-[1-9][0-9]*/weights",  # while training goes on
        "PUT /.*/tokenizer/checkpoint.json",
        "PUT /.*/tokenizer/result.json",
    ],
)
def test_kill_9_in_the_middle_of_an_upload_costs_the_work_since_the_last_whole_checkpoint(
    request_head: str,
    server: S3Server,
    bucket: Path,
    trainable: MakeRun,
    undisturbed: StageResult,
    machine: StartMachine,
) -> None:
    run = trainable(output=f"s3://{bucket.name}", checkpoint={"every_seconds": 20})
    nth = 2 if "checkpoint.json" in request_head or "[1-9]" in request_head else 1
    with Proxy(server.port, request_head, nth=nth) as proxy:
        victim = machine(run, port=proxy.port)
        assert proxy.reached.wait(240), victim.text("stderr")
        victim.process.send_signal(signal.SIGKILL)
        assert victim.end() == -signal.SIGKILL
    pointer = json.loads(in_store(bucket, run).pointer.read_text())
    whole = pointer["latest"]["step"]
    assert whole == 46 if "result.json" in request_head else 0 < whole < 46
    assert not in_store(bucket, run).result.exists()

    again = machine(run.model_copy(update={"attempt": 1}))
    assert again.end() == 0, again.text("stderr")
    if whole < 46:
        assert again.began_at == whole
    assert in_store(bucket, run).completed().digest == undisturbed.digest
    third = Mirror(run, bucket.parent / f"{bucket.name}-copy")
    third.pull()
    stage = third.paths.stage(run.stage)
    named = {entry["directory"] for entry in json.loads(stage.pointer.read_text()).values()}
    assert {path.name for path in stage.checkpoints.iterdir()} == named, "what the killed process left is gone"


def test_a_bucket_that_goes_while_a_stage_trains_ends_it_and_it_goes_on_when_the_bucket_is_back(
    server: S3Server, bucket: Path, trainable: MakeRun, undisturbed: StageResult, machine: StartMachine
) -> None:
    run = trainable(output=f"s3://{bucket.name}", checkpoint={"every_seconds": 20})
    away = bucket.with_name(f".{bucket.name}")
    # Of the second checkpoint, which is written while training goes on.
    request = "PUT /.*/checkpoints/step-[1-9][0-9]*/weights"
    with Proxy(server.port, request, nth=2, meanwhile=lambda: bucket.rename(away) and None) as proxy:
        cut_off = machine(run, port=proxy.port)
        assert cut_off.end() == 74, cut_off.text("stderr")
    assert f"s3://{bucket.name}: no such bucket" in cut_off.text("stderr")
    assert cut_off.events[-1]["exitCode"] == 74
    away.rename(bucket)
    whole = json.loads(in_store(bucket, run).pointer.read_text())["latest"]["step"]
    again = machine(run.model_copy(update={"attempt": 1}))
    assert again.end() == 0, again.text("stderr")
    assert again.began_at == whole and 0 < whole < 46
    assert in_store(bucket, run).completed().digest == undisturbed.digest


def test_wrong_keys_end_the_run_at_once_with_what_to_do(
    bucket: Path, trainable: MakeRun, machine: StartMachine
) -> None:
    refused = machine(trainable(output=f"s3://{bucket.name}/x"), AWS_SECRET_ACCESS_KEY="not-the-key")
    assert refused.end(60) == 66
    message = refused.events[-1]["message"]
    assert message.startswith(f"s3://{bucket.name}/x: permission denied to ") and "SignatureDoesNotMatch" in message
    assert "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in message
    told = refused.text("stdout") + refused.text("stderr")
    assert "Traceback" not in told and "not-the-key" not in told and ACCESS_KEY not in told


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("environment", "uri", "message"),
    [
        (
            {"AWS_SECRET_ACCESS_KEY": "wrong"},
            "s3://{}/a.csv",
            "permission denied to read: HTTP 403; check AWS_ACCESS_KEY_ID",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "unknown"},
            "s3://{}",
            "permission denied to list: InvalidAccessKeyId .*; check AWS_ACCESS_KEY_ID",
        ),
        ({}, "s3://no-such-bucket/daily", "no such bucket.*create it, or correct the URI"),
        ({}, "s3://{}/nothing", "nothing found; check the URI"),
        (
            {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "AWS_METADATA_ENDPOINT": "http://127.0.0.1:1"},
            "s3://{}",
            "no credentials: .*nor AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; set them from a Secret",
        ),
    ],
)
def test_what_no_retry_mends_is_an_input_that_is_missing(
    environment: dict[str, str | None],
    uri: str,
    message: str,
    bucket: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    with pytest.raises(InputMissing, match=message) as refused:
        fetch_bars(uri.format(bucket.name), tmp_path)
    assert str(refused.value).startswith(uri.format(bucket.name) + ":")
    assert SECRET_KEY not in str(refused.value) and ACCESS_KEY not in str(refused.value)


def test_keys_that_may_only_read_are_refused_before_anything_is_trained(
    server: S3Server, bucket: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with S3Server(server.root, read_only=True) as locked:
        monkeypatch.setenv("AWS_ENDPOINT_URL", locked.environment()["AWS_ENDPOINT_URL"])
        run = make_run(output=f"s3://{bucket.name}")
        mirror = Mirror(run, tmp_path)
        mirror.pull()
        with (
            model_lock(mirror.paths, run),
            pytest.raises(InputMissing, match=r"permission denied to write: .*permission to write"),
        ):
            mirror.claim()


@pytest.mark.usefixtures("impatient")
def test_a_store_that_does_not_answer_is_given_up_in_time(
    bucket: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"s3://x/daily: cannot read: .*http://127.0.0.1:1/x/daily"):
        fetch_bars("s3://x/daily", tmp_path)
    assert time.monotonic() - began < 30


@pytest.mark.usefixtures("impatient")
def test_a_large_file_is_there_whole_or_not_at_all(
    server: S3Server, bucket: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = os.urandom(3 * stores.PART + 1)
    (tmp_path / "up").write_bytes(content)
    with Proxy(server.port, "PUT /.*partNumber=2", cut=True) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(StorageError, match="cannot write"):
            Store(f"s3://{bucket.name}").upload(tmp_path / "up", "big.csv", None, lambda: None)
        assert proxy.reached.is_set()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
    with pytest.raises(InputMissing, match="nothing found"):
        fetch_bars(f"s3://{bucket.name}/big.csv", tmp_path / "cache")
    beats: list[int] = []
    Store(f"s3://{bucket.name}").upload(tmp_path / "up", "big.csv", None, lambda: beats.append(1))
    assert len(beats) >= 4, "signs of life while it goes"
    assert fetch_bars(f"s3://{bucket.name}/big.csv", tmp_path / "cache").read_bytes() == content


@pytest.mark.parametrize("size", [100_000, stores.PART + 1])
def test_a_store_that_hangs_up_before_it_has_read_all_is_asked_for_its_reason(
    size: int, server: S3Server, bucket: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "up").write_bytes(bytes(size))
    away = bucket.with_name(f".{bucket.name}")
    with Proxy(server.port, "P(U|OS)T /", meanwhile=lambda: bucket.rename(away) and None, cut=True) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(InputMissing, match=f"s3://{bucket.name}: no such bucket"):
            Store(f"s3://{bucket.name}").upload(tmp_path / "up", "weights", None, lambda: None)


def test_of_many_that_write_an_object_at_once_on_a_condition_one_does(bucket: Path, tmp_path: Path) -> None:
    together, won = threading.Barrier(8), []
    for number in range(8):
        (tmp_path / str(number)).write_text(str(number))

    def write(number: int) -> None:
        store = Store(f"s3://{bucket.name}")
        together.wait()
        try:
            store.upload(tmp_path / str(number), "lock.json", None, lambda: None)
            won.append(number)
        except Changed:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(bucket / "lock.json").read_text()] == [str(number) for number in won]


def test_five_hundred_symbols_are_there_and_the_copy_is_used_again(bucket: Path, tmp_path: Path) -> None:
    (bucket / "daily").mkdir()
    for number in range(500):
        (bucket / "daily" / f"S{number:04}.csv").write_text(str(number))
    copy = fetch_bars(f"s3://{bucket.name}/daily", tmp_path)
    assert {path.stem: path.read_text() for path in copy.iterdir()} == {f"S{n:04}": str(n) for n in range(500)}
    assert fetch_bars(f"s3://{bucket.name}/daily", tmp_path) == copy
