from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kronos_operator.api import KronosModel
from kronos_operator.loading import Loaded, load_models
from kronos_operator.local import (
    LocalError,
    LocalRun,
    LocalSettings,
    RunResult,
    execute,
    prepare,
    read_states,
    refusals,
    sample_command,
    stop,
    stored_model,
    write_run_configs,
)
from kronos_operator.local.bars_record import record_bars
from kronos_operator.local.files import write_model, write_run
from kronos_operator.local.gpus import divided, used_at_once, visible_gpus
from kronos_operator.local.holding import GONE_AFTER, holder_of, holding
from kronos_trainer.config import Event, NoteEvent, StageName, StartedEvent, load_run

TOKENIZER, PREDICTOR, EVALUATION = StageName
FAKE = (sys.executable, str(Path(__file__).parent / "fixtures" / "fake_trainer.py"))


@dataclass
class Machine:
    """A directory with bars, results and the fake trainer's script."""

    place: Path
    events: list[tuple[str, Event]] = field(default_factory=list)
    on_event: Callable[[str, dict[str, Any]], None] = lambda key, event: None

    def settings(self, **changes: Any) -> LocalSettings:
        return LocalSettings(**{"output": self.place / "out", "data": self.place / "data"} | changes)

    def prepare(self, name: str = "m", *, settings: LocalSettings | None = None, **changes: Any) -> LocalRun:
        spec = {
            "timeframe": "1d",
            "data": {"source": {"claim": {"name": "bars", "path": "daily"}}},
            "tokenizer": {"epochs": 1},
            "evaluation": {"enabled": False},
            "retry": {"backoffSeconds": 0, "maxRestarts": 2},
            "resources": {"gpusPerNode": 4},
        }
        model = KronosModel.model_validate({"metadata": {"name": name}, "spec": spec | changes})
        return prepare(Loaded(model, self.place / f"{name}.yaml", {}), settings or self.settings())

    def run(self, *runs: LocalRun, gpus: str = "", **changes: Any) -> dict[str, RunResult]:
        environ = os.environ | {"FAKE_SCRIPT": str(self.place), "CUDA_VISIBLE_DEVICES": gpus}
        environ.pop("OMP_NUM_THREADS", None)
        return execute(runs, self.settings(**changes), self._notify, trainer_command=FAKE, environ=environ)

    def _notify(self, key: str, event: Event) -> None:
        self.events.append((key, event))
        self.on_event(key, event)

    def script(self, name: str, stage: StageName, *words: str) -> None:
        (self.place / f"{name}-{stage}").write_text(" ".join(words))

    def starts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.place / "starts").read_text().splitlines()]

    def stages(self) -> list[str]:
        return [start["stage"] for start in self.starts()]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    bars = tmp_path / "data" / "bars" / "daily"
    bars.mkdir(parents=True)
    (bars / "aapl.csv").write_text("timestamps,open\n")
    return Machine(tmp_path)


def test_both_stages_are_trained_once(machine: Machine) -> None:
    run = machine.prepare()
    assert [stage.action for stage in run.stages] == ["train", "train"]
    assert machine.run(run)["m"].exit_code == 0
    first, second = machine.starts()
    pids = [event.pid for _, event in machine.events if isinstance(event, StartedEvent)]
    assert len(pids) == 2 and pids[0] == pids[1], "one process trains both"
    assert (first["stage"], first["publish"], second["stage"], second["publish"]) == (
        "tokenizer",
        False,
        "predictor",
        True,
    )
    assert first["bars"] == str(machine.place / "data" / "bars" / "daily")
    assert (first["nproc"], first["gpus"], first["threads"]) == ("1", "", str(os.cpu_count()))
    kinds = [event.event for _, event in machine.events if event.stage == "tokenizer"]
    assert kinds == ["started", "note", "progress", "result", "ended"]
    log = run.paths.log(run.run, TOKENIZER, 0).read_text()
    assert "a line that is no JSON" in log
    (state,) = read_states(machine.place / "out")
    assert (state.state, state.stage, state.published, set(state.results)) == (
        "succeeded",
        PREDICTOR,
        run.run,
        {TOKENIZER, PREDICTOR},
    )
    assert state.progress is not None
    assert state.progress.step == 1

    again = machine.prepare()
    assert [stage.action for stage in again.stages] == ["complete", "complete"]
    assert machine.run(again)["m"].exit_code == 0
    assert len(machine.starts()) == 2


def test_only_what_a_change_affects_is_trained_again(machine: Machine) -> None:
    first = machine.prepare()
    machine.run(first)
    changed = machine.prepare(predictor={"epochs": 7})
    assert [stage.action for stage in changed.stages] == [f"reuse {first.run}", "train"]
    machine.run(changed)
    assert machine.stages() == ["tokenizer", "predictor", "predictor"]
    assert machine.starts()[2]["reuseTokenizer"] == {"run": first.run, "hash": first.stage_hashes[TOKENIZER]}
    # Moving the bars trains nothing, nor does a note beside them; changing them trains everything.
    (machine.place / "data" / "bars" / "daily" / "README.txt").write_text("where they are from")
    (machine.place / "data" / "bars").rename(machine.place / "data" / "moved")
    moved = machine.prepare(predictor={"epochs": 7}, data={"source": {"claim": {"name": "moved", "path": "daily"}}})
    assert [stage.action for stage in moved.stages] == ["complete", "complete"]
    (machine.place / "data" / "moved" / "daily" / "aapl.csv").write_text("timestamps,close\n")
    fresh = machine.prepare(data={"source": {"claim": {"name": "moved", "path": "daily"}}})
    assert [stage.action for stage in fresh.stages] == ["train", "train"]


def test_bars_behind_a_linked_directory_count_as_content(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "bars").mkdir()
    (tmp_path / "bars/linked").symlink_to(tmp_path / "store")
    digests = set()
    for text in ("one", "two"):
        (tmp_path / "store/A.csv").write_text(text)
        digests.add(record_bars(tmp_path / "bars").digest)
    assert len(digests) == 2


def test_force_trains_again_and_can_be_gone_on_with(machine: Machine) -> None:
    first = machine.prepare()
    machine.run(first)
    forced = machine.prepare(settings=machine.settings(force=True))
    assert forced.run != first.run
    machine.script("m", PREDICTOR, "65")
    assert machine.run(forced)["m"].exit_code == 65
    resumed = machine.prepare()
    assert (resumed.run, [stage.action for stage in resumed.stages]) == (forced.run, ["complete", "train"])


def test_reverting_publishes_the_old_run_again(machine: Machine) -> None:
    first = machine.prepare()
    machine.run(first)
    machine.run(machine.prepare(predictor={"epochs": 7}))
    reverted = machine.prepare()
    machine.run(reverted)
    assert (reverted.run, machine.starts()[-1]["stage"]) == (first.run, "predictor")
    assert read_states(machine.place / "out")[0].published == first.run


def test_crashes_and_lack_of_memory_are_retried_and_bad_data_is_not(machine: Machine) -> None:
    machine.script("m", TOKENIZER, "1", "71", "75", "74")
    machine.script("m", PREDICTOR, "65")
    outcome = machine.run(machine.prepare())["m"]
    assert (outcome.exit_code, outcome.message) == (65, "bars.csv, row 7: high < low")
    assert [start["outOfMemoryRestarts"] for start in machine.starts()] == [0, 0, 1, 1, 1, 0]
    assert [start["attempt"] for start in machine.starts()] == [0, 1, 2, 3, 4, 5]
    (state,) = read_states(machine.place / "out")
    assert (state.state, state.exit_code, state.message) == ("failed", 65, "bars.csv, row 7: high < low")
    # A rerun goes on with new attempt numbers, and gives up after maxRestarts.
    machine.script("m", PREDICTOR, "1", "1", "1", "1")
    outcome = machine.run(machine.prepare())["m"]
    assert outcome.exit_code == 1
    assert "given up after 2 restarts" in outcome.message
    assert [start["attempt"] for start in machine.starts()[6:]] == [6, 7, 8]


def test_a_failed_model_does_not_stop_the_others_and_gpus_are_not_shared(machine: Machine) -> None:
    machine.script("a", TOKENIZER, "66")
    names = ("a", "b", "c", "d")
    resources = {"gpusPerNode": 4, "processesPerNode": 2}
    runs = [machine.prepare(name, resources=resources) for name in names]
    outcomes = machine.run(*runs, gpus="3,5,7", mode="parallel", max_workers=2)
    assert {name: outcome.exit_code for name, outcome in outcomes.items()} == {"a": 66, "b": 0, "c": 0, "d": 0}
    assert list(outcomes) == list(names)
    used = {(start["gpus"], start["nproc"]) for start in machine.starts()}
    assert used <= {("3,5", "2"), ("7", "1")}
    notes = [event.message for _, event in machine.events if isinstance(event, NoteEvent)]
    assert "gpusPerNode is 4; this run uses 1 GPU" in notes or "gpusPerNode is 4; this run uses 2 GPUs" in notes
    fewer = "processesPerNode is 2; this run uses 1, one for each GPU, for the same batches"
    assert (fewer in notes) == any(nproc == "1" for _, nproc in used)


def test_models_share_a_gpu_where_that_is_asked_for(machine: Machine) -> None:
    runs = [machine.prepare(name) for name in ("a", "b", "c")]
    machine.run(*runs, gpus="4", mode="parallel", workers_per_gpu=3)
    starts = machine.starts()
    assert {(start["gpus"], start["nproc"]) for start in starts} == {("4", "1")}
    assert {start["threads"] for start in starts} == {str(max(1, (os.cpu_count() or 1) // 3))}
    tokenizers = [start for start in starts if start["stage"] == TOKENIZER]
    assert max(start["begin"] for start in tokenizers) < min(
        run.paths.stage(TOKENIZER).result.stat().st_mtime for run in runs
    )


# As drivers 535 and 570 write it: H100s of which one is cut into two slices, and cards that are whole.
CUT = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-950792bf-a01c-3f1a-e122-3473e67f54b2)
  MIG 3g.40gb     Device  0: (UUID: MIG-b3061c09-2a4c-5026-a575-79f86a5bb12c)
  MIG 1g.10gb     Device  1: (UUID: MIG-a686709d-6dc2-542a-8851-0d2508448c10)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-c92e2d5d-4a69-f1cd-4df0-305f8606705a)
"""
WHOLE = """GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-9c73eb7b-8d6d-6c0e-dc13-97873e2ede40)
GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-e109d8d9-923e-7235-0429-96b7fdbcbd30)
"""


@pytest.mark.parametrize(
    ("listing", "ids"),
    [
        (WHOLE, ["0", "1"]),
        (
            CUT,
            [
                "MIG-b3061c09-2a4c-5026-a575-79f86a5bb12c",
                "MIG-a686709d-6dc2-542a-8851-0d2508448c10",
                "GPU-c92e2d5d-4a69-f1cd-4df0-305f8606705a",
            ],
        ),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", []),
    ],
)
def test_gpus_and_their_slices_are_those_that_nvidia_smi_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listing: str, ids: list[str]
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ntest \"$1\" = -L && cat <<'END'\n{listing}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert visible_gpus({}) == ids
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "5, MIG-1"}) == ["5", "MIG-1"]


def test_an_attempt_uses_one_slice(machine: Machine) -> None:
    machine.run(machine.prepare(resources={"gpusPerNode": 2, "processesPerNode": 2}), gpus="MIG-a,MIG-b")
    assert {(start["gpus"], start["nproc"]) for start in machine.starts()} == {("MIG-a", "1")}
    assert used_at_once(["MIG-a", "0", "1"], 1) == ["0"], "CUDA counts no cards beside a slice"
    assert used_at_once(["MIG-a"], 0) == []


@pytest.mark.parametrize(
    ("gpus", "workers", "per_gpu"), [(0, 3, 1), (0, 3, 2), (1, 2, 1), (4, 2, 3), (5, 3, 1), (2, 1, 1)]
)
def test_every_gpu_belongs_to_one_worker(gpus: int, workers: int, per_gpu: int) -> None:
    ids = [str(index) for index in range(gpus)]
    shares = divided(ids, workers, per_gpu=per_gpu)
    assert [id_ for share in shares for id_ in share] == ids
    assert len(shares) == (min(gpus, workers) if gpus else workers)
    assert all(shares) or not gpus


@pytest.mark.parametrize(("workers", "shares"), [(3, "001"), (9, "0011")])
def test_workers_beyond_the_gpus_share_them_evenly(workers: int, shares: str) -> None:
    assert sorted(divided(["0", "1"], workers, per_gpu=2)) == [[id_] for id_ in shares]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_saves_and_starts_nothing_more(machine: Machine, number: signal.Signals) -> None:
    machine.script("a", TOKENIZER, "wait")
    runs = [machine.prepare("a"), machine.prepare("b")]
    before = signal.getsignal(number)
    seen = []

    def interrupt(key: str, event: dict[str, Any]) -> None:
        if event.event == "progress" and key == "a":
            seen.extend(read_states(machine.place / "out"))
            os.kill(os.getpid(), number)

    machine.on_event = interrupt
    outcomes = machine.run(*runs)
    assert [outcome.exit_code for outcome in outcomes.values()] == [75, 75]
    assert outcomes["b"].message == "not started"
    assert [state.state for state in seen] == ["running"]
    assert [state.state for state in read_states(machine.place / "out")] == ["stopped"]
    assert signal.getsignal(number) is before
    machine.on_event = lambda key, event: None
    assert machine.run(machine.prepare("a"))["a"].exit_code == 0


def test_asked_twice_to_stop_it_still_saves(machine: Machine) -> None:
    machine.script("m", TOKENIZER, "slow")

    def interrupt(key: str, event: dict[str, Any]) -> None:
        if event.event == "progress":
            os.kill(os.getpid(), signal.SIGTERM)
        if isinstance(event, NoteEvent) and event.message == "saving":
            os.kill(os.getpid(), signal.SIGTERM)

    machine.on_event = interrupt
    assert machine.run(machine.prepare())["m"].exit_code == 75


@pytest.mark.parametrize("stage", StageName.with_weights())
def test_the_second_signal_kills_the_ranks_too(machine: Machine, stage: StageName) -> None:
    machine.script("m", stage, "deaf")

    def interrupt(key: str, event: dict[str, Any]) -> None:
        if event.event == "progress" and event.stage == stage:
            threading.Thread(target=twice).start()

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    machine.on_event = interrupt
    outcome = machine.run(machine.prepare())["m"]
    assert (outcome.exit_code, "before anything was saved" in outcome.message) == (137, True)
    child = Path("/proc") / (machine.place / "child").read_text() / "stat"
    deadline = time.monotonic() + 10
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "a rank outlived the second Ctrl-C"
        time.sleep(0.05)


def test_a_trainer_that_does_not_end_within_its_grace_is_killed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.script("m", TOKENIZER, "deaf")
    run = machine.prepare()
    config = run.run_configs[TOKENIZER].model_copy(update={"grace_seconds": 1})
    monkeypatch.setattr(LocalRun, "run_config", lambda self, start: config)

    def interrupt(key: str, event: dict[str, Any]) -> None:
        if event.event == "progress":
            os.kill(os.getpid(), signal.SIGTERM)

    machine.on_event = interrupt
    assert machine.run(run)["m"].exit_code == 137


def test_a_smaller_micro_batch_is_kept_by_the_next_command(machine: Machine) -> None:
    machine.script("m", TOKENIZER, "71", "65")
    assert machine.run(machine.prepare())["m"].exit_code == 65
    assert machine.run(machine.prepare())["m"].exit_code == 0
    restarts = [(start["stage"], start["outOfMemoryRestarts"]) for start in machine.starts()]
    assert restarts == [("tokenizer", 0), ("tokenizer", 1), ("tokenizer", 1), ("predictor", 0)]


def test_a_second_run_is_refused_at_once_and_the_first_is_unharmed(machine: Machine) -> None:
    machine.script("m", TOKENIZER, "wait")
    seen: list[Any] = []

    def intrude(key: str, event: dict[str, Any]) -> None:
        if event.event != "progress":
            return
        second = machine.prepare(predictor={"epochs": 7})
        try:
            with holding(second.paths, second.key):
                seen.append("let in")
        except LocalError as error:
            seen.extend([error.exit_code, str(error)])
        (state,) = read_states(machine.place / "out")
        seen.extend([state.state, state.run, second.paths.run_dir.exists(), stop(state)])

    machine.on_event = intrude
    first = machine.prepare()
    assert machine.run(first)["m"].exit_code == 75  # asked to stop by the state that was read after the refusal
    code, words, *after = seen
    assert (code, after) == (74, ["running", first.run, False, os.getpid()])
    assert f"process {os.getpid()} on " in words and "`kronos suspend m`" in words
    assert len(machine.starts()) == 1
    machine.on_event = lambda key, event: None
    assert machine.run(machine.prepare())["m"].exit_code == 0


def test_of_commands_that_come_together_one_runs_the_model(machine: Machine) -> None:
    paths, gate, done = machine.prepare().paths, threading.Barrier(8), threading.Event()

    def come(_: int) -> bool:
        gate.wait()
        try:
            with holding(paths, "m"):
                done.wait(10)
        except LocalError as error:
            assert "is already being trained by process" in str(error)
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(come, index) for index in range(8)]
        for _ in as_completed(futures):
            if len([one for one in futures if one.done()]) >= 7:
                done.set()
        assert [future.result() for future in futures].count(True) == 1


def test_a_run_that_was_prepared_before_another_finished_starts_nothing(machine: Machine) -> None:
    late = machine.prepare(predictor={"epochs": 7})
    machine.run(machine.prepare())
    outcome = machine.run(late)["m"]
    assert (outcome.exit_code, "by another command meanwhile" in outcome.message) == (74, True)
    assert len(machine.starts()) == 2


def test_a_killed_holder_is_in_nobodys_way(machine: Machine) -> None:
    paths = machine.prepare().paths
    code = (
        "import sys, time; from pathlib import Path; from kronos_operator.local.holding import holding;"
        "from kronos_trainer.config import ModelRef, RunPaths;"
        "paths = RunPaths(Path(sys.argv[1]), ModelRef(name='m'), 'dead')\n"
        "with holding(paths, 'm'):\n    print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(paths.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(LocalError, match=f"process {process.pid} on .* run dead"), holding(paths, "m"):
            pass
        process.kill()
        process.wait()
    with holding(paths, "m"):
        assert holder_of(paths) is not None
    assert holder_of(paths) is None


def test_a_holder_on_another_host_counts_while_its_file_is_touched(machine: Machine) -> None:
    # As on a network file system whose locks do not reach other machines.
    paths = machine.prepare().paths
    paths.model_dir.mkdir(parents=True)
    file = paths.model_dir / "command.json"
    file.write_text(json.dumps({"run": "r", "pid": 1, "host": "elsewhere", "since": "2026-01-01T00:00:00Z"}))
    with pytest.raises(LocalError, match=r"process 1 on elsewhere.*if that process is gone"), holding(paths, "m"):
        pass
    assert json.loads(file.read_text())["host"] == "elsewhere"
    old = time.time() - 2 * GONE_AFTER
    os.utime(file, (old, old))
    with holding(paths, "m"):
        assert json.loads(file.read_text())["pid"] == os.getpid()


def test_a_trainer_that_no_command_has_started_is_named(machine: Machine) -> None:
    run = machine.prepare()
    run.paths.model_dir.mkdir(parents=True)
    rank = {"run": "by-hand", "stage": "tokenizer", "attempt": 3, "host": "here", "pid": 77, "since": "then"}
    run.paths.lock.write_text(json.dumps(rank))
    with run.paths.flock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        outcome = machine.run(run)["m"]
    assert outcome.exit_code == 74
    assert "process 77 on here, since then, run by-hand" in outcome.message
    assert not (machine.place / "starts").exists()


@pytest.mark.parametrize("cause", ["NoRoom", "Refused", "Occupied"])
def test_what_another_start_would_meet_again_is_not_started_again(machine: Machine, cause: str) -> None:
    machine.script("m", TOKENIZER, f"74:{cause}")
    outcome = machine.run(machine.prepare())["m"]
    assert (outcome.exit_code, outcome.message) == (74, f"cannot write: {cause}")
    assert len(machine.starts()) == 1


def reasons(run: LocalRun) -> list[str]:
    return [stage.reason for stage in run.stages]


FILES = ["command.json", "run.json", "next.json", "model.json", "bars.json", "-tokenizer-0.log", "-predictor-1.log"]


@pytest.mark.parametrize("file", FILES)
def test_a_full_disk_at_any_write_of_the_command_ends_with_74(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    open_, run = Path.open, machine.prepare()
    full = [True]

    def opened(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        # The device lets itself be opened, and has no room.
        place = Path("/dev/full") if full[0] and mode != "r" and path.name.endswith(file) else path
        return open_(place, mode, *args, **options)

    monkeypatch.setattr(Path, "open", opened)
    outcome = machine.run(run)["m"]
    assert outcome.exit_code == 74
    assert file in outcome.message and "No space left on device" in outcome.message
    assert "MiB free there); free disk space" in outcome.message
    full[0] = False
    assert machine.run(machine.prepare())["m"].exit_code == 0


def test_what_a_stage_found_out_about_comet_the_next_ones_are_told(machine: Machine) -> None:
    machine.script("m", TOKENIZER, "comet")
    machine.run(machine.prepare())
    assert [start["comet_mode"] for start in machine.starts()] == ["", "disabled"]


def test_a_plan_says_which_field_has_changed(machine: Machine) -> None:
    assert reasons(machine.prepare()) == ["not trained yet"] * 2
    machine.run(machine.prepare())
    changed = {"predictor": {"epochs": 7}, "window": {"lookback": 30}, "training": {"windowsPerEpoch": 9}}
    assert reasons(machine.prepare(**changed)) == [
        "training.windowsPerEpoch unset → 9; window.lookback 90 → 30",
        "its tokenizer is trained again; predictor.epochs 30 → 7",
    ]
    assert reasons(machine.prepare(predictor={"epochs": 7}))[1] == "predictor.epochs 30 → 7"
    assert reasons(machine.prepare(settings=machine.settings(force=True)))[0] == "asked for with --force"


ROWS = [f"2020-{1 + day // 28:02d}-{1 + day % 28:02d},{day}.5,1" for day in range(300)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda place: _edit(place / "aapl.csv", ROWS[-1] + "\n", ROWS[-1] + "\n2021-05-04,1,1\n2021-05-05,1,1\n"),
            "2 rows from 2021-05-04 on",
        ),
        (lambda place: (place / "msft.csv").write_text("a\n"), "new bars: msft.csv"),
        (lambda place: (place / "aapl.csv").rename(place / "apple.csv"), "bars renamed: aapl.csv → apple.csv"),
        (lambda place: (place / "ibm.csv").unlink(), "bars removed: ibm.csv"),
        (lambda place: _edit(place / "aapl.csv", "100.5", "199.5"), "bars changed: aapl.csv between about 2020-04-"),
        (lambda place: _edit(place / "aapl.csv", "100.5", "2"), "bars changed: aapl.csv from about 2020-04-"),
        (lambda place: _edit(place / "aapl.csv", ROWS[-1] + "\n", ""), "bars changed: aapl.csv from about 2020-11-"),
        (lambda place: (place / "ibm.csv").write_bytes(b"\0" * 100), "bars changed: ibm.csv (10 → 100 bytes)"),
    ],
)
def test_a_plan_says_which_bars_have_changed(machine: Machine, change: Callable[[Path], object], words: str) -> None:
    place = machine.place / "data" / "bars" / "daily"
    (place / "aapl.csv").write_text("timestamps,open,close\n" + "\n".join(ROWS) + "\n")
    (place / "ibm.csv").write_text("timestamps")
    machine.run(machine.prepare())
    change(place)
    first, second = reasons(machine.prepare())
    assert words in first
    assert second == "its tokenizer is trained again"


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def test_a_plan_goes_on_only_where_a_checkpoint_is(machine: Machine) -> None:
    machine.script("m", TOKENIZER, "65")
    run = machine.prepare()
    machine.run(run)
    assert reasons(machine.prepare()) == [
        "starts again: the last attempt failed (65): bars.csv, row 7: high < low",
        "not trained yet",
    ]
    run.paths.stage(TOKENIZER).pointer.write_text(
        json.dumps({"latest": {"directory": "step-7", "step": 7, "sha256": ""}})
    )
    assert reasons(machine.prepare())[0].startswith(
        "resumes from the checkpoint of step 7; the last attempt failed (65)"
    )


def test_a_warm_start_is_from_what_was_published_when_the_run_began(machine: Machine) -> None:
    warm = {stage: {"init": {"published": True}} for stage in StageName.with_weights()}
    with pytest.raises(LocalError, match="m has published nothing yet; train it once from other weights") as caught:
        machine.prepare(**warm)
    assert caught.value.exit_code == 66

    first = machine.prepare()
    machine.run(first)
    second = machine.prepare(**warm)
    assert reasons(second)[0].endswith(f"it starts from the weights of run {first.run}, now published")
    machine.run(second)
    start = machine.starts()[-1]["warmStart"]
    assert start["run"] == first.run and start["digests"]["predictor"] == f"predictor of {first.run}"
    # That it has published itself changes nothing of what it was trained from.
    again = machine.prepare(**warm)
    assert (again.run, [stage.action for stage in again.stages]) == (second.run, ["complete", "complete"])

    # The bars grow: from the second, now published. Interrupted, it goes on as what it began with.
    (machine.place / "data" / "bars" / "daily" / "msft.csv").write_text("timestamps,open\n")
    machine.script("m", TOKENIZER, "65")
    third = machine.prepare(**warm)
    machine.run(third)
    resumed = machine.prepare(**warm)
    assert (resumed.run, resumed.warm_start) == (third.run, third.warm_start)
    assert third.warm_start is not None and third.warm_start.run == second.run
    machine.run(resumed)
    assert [stage.action for stage in machine.prepare(**warm).stages] == ["complete", "complete"]
    # Asked for anew, it starts from what is published now.
    forced = machine.prepare(settings=machine.settings(force=True), **warm)
    assert forced.warm_start is not None and forced.warm_start.run == third.run


def test_a_held_run_is_done_and_what_was_published_stays(machine: Machine) -> None:
    judged: dict[str, Any] = {"evaluation": {}}
    first = machine.prepare(**judged)
    machine.run(first, gpus="0,1,2,3")
    evaluation = machine.starts()[-1]
    assert (evaluation["stage"], evaluation["nproc"], evaluation["gpus"]) == ("evaluation", "1", "0")
    assert machine.starts()[-2]["nproc"] == "4"

    machine.script("m", EVALUATION, "held")
    other = judged | {"predictor": {"epochs": 7}}
    held = machine.prepare(**other)
    assert machine.run(held)["m"].exit_code == 0
    again = machine.prepare(**other)
    assert (again.run, again.files.published) == (held.run, first.run)
    assert not any(stage.due for stage in again.stages)
    count = len(machine.starts())
    assert machine.run(again)["m"].exit_code == 0
    assert len(machine.starts()) == count  # nothing is asked again

    # But of a run that was cut off before it became the candidate: the trainer knows what is left to do.
    again.paths.candidate.unlink()
    machine.script("m", EVALUATION, "held")
    assert machine.run(machine.prepare(**other))["m"].exit_code == 0
    assert machine.stages()[count:] == ["evaluation"] and again.paths.candidate.exists()
    count += 1

    # Another gate judges the same run, and trains nothing.
    relaxed = machine.prepare(**other, promotion={"onUndecided": "publish"})
    assert (relaxed.run, [stage.action for stage in relaxed.stages][1:]) == (held.run, ["complete", "score"])
    assert relaxed.stages[-1].reason == "promotion.onUndecided hold → publish"
    machine.run(relaxed)
    assert machine.stages()[count:] == ["evaluation"]
    assert machine.prepare(**other).files.published == held.run


def test_the_predictor_alone_needs_a_tokenizer(machine: Machine) -> None:
    only = machine.settings(stages=frozenset({PREDICTOR}))
    with pytest.raises(
        LocalError, match=r"predictor requires a trained tokenizer: train it with .*--stage tokenizer"
    ) as caught:
        machine.prepare(settings=only)
    assert caught.value.exit_code == 66
    machine.run(machine.prepare(settings=machine.settings(stages=frozenset({TOKENIZER}))))
    run = machine.prepare(settings=only)
    assert [stage.action for stage in run.stages] == ["complete", "train"]
    assert machine.run(run)["m"].exit_code == 0
    assert machine.stages() == ["tokenizer", "predictor"]


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"data": {"source": {"claim": {"name": "nowhere"}}}}, 66, "KRONOS_DATA_PATH"),
        ({"tokenizer": {"init": {"path": "nowhere"}}}, 66, "spec.tokenizer.init.path"),
        (
            {
                "tokenizer": {"epochs": 0, "init": {"hub": {"repo": "a/b"}}},
                "predictor": {"epochs": 0, "init": {"hub": {"repo": "a/b"}}},
            },
            64,
            "nothing to train",
        ),
    ],
)
def test_what_cannot_be_run_says_what_to_do(machine: Machine, changes: dict[str, Any], code: int, words: str) -> None:
    with pytest.raises(LocalError, match=words) as caught:
        machine.prepare(**changes)
    assert caught.value.exit_code == code


def test_a_model_given_twice_is_refused(machine: Machine) -> None:
    with pytest.raises(LocalError, match="m is given twice"):
        machine.run(machine.prepare(), machine.prepare())


def test_without_torch_the_extra_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LocalError, match=r"kronos-operator\[trainer\]") as caught:
        execute([machine.prepare()], machine.settings(), lambda key, event: None)
    assert caught.value.exit_code == 78


def test_what_only_a_cluster_can_do_is_said(machine: Machine) -> None:
    run = machine.prepare(suspend=True, resources={"nodes": 2})
    assert len(run.notes) == 2
    assert machine.run(run)["m"].exit_code == 0


def test_written_configs_are_what_the_trainer_reads(machine: Machine, tmp_path: Path) -> None:
    run = machine.prepare()
    files = write_run_configs(run, tmp_path / "configs")
    assert [file.name for file in files] == ["tokenizer.json", "predictor.json"]
    assert [load_run(file) for file in files] == list(run.run_configs.values())


def test_paths_come_from_the_environment() -> None:
    model = KronosModel.model_validate(
        {
            "metadata": {"name": "m"},
            "spec": {"timeframe": "1d", "data": {"source": {"path": "us"}}, "storage": {"path": "kept"}},
        }
    )
    loaded = Loaded(model, Path("/models/m.yaml"), {})
    default = LocalSettings.from_environ({})
    assert (default.bars(loaded), default.root(model.spec)) == ("/models/us", Path("kept").absolute())
    for data, output in (
        ("/bars", "/out"),
        ("data", "outputs"),
    ):  # which are the defaults' names, and hold all the same
        given = LocalSettings.from_environ({"KRONOS_DATA_PATH": data, "KRONOS_OUTPUT_PATH": output})
        assert given.bars(loaded) == str(Path(data).absolute() / "us")
        assert given.root(model.spec) == Path(output).absolute()


MODEL = """\
apiVersion: kronos.io/v1alpha1
kind: KronosModel
metadata: {name: m}
spec:
  timeframe: 1d
  data: {source: {path: ../bars/us.csv}, revision: "1"}
  tokenizer: {init: {path: ../w}}
"""


def test_relative_paths_start_at_the_file_that_names_them_from_every_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for directory in ("models", "bars", "w", "elsewhere"):
        (tmp_path / directory).mkdir()
    for file in ("bars/us.csv", "w/config.json", "w/model.safetensors"):
        (tmp_path / file).write_text("x")
    (tmp_path / "models" / "m.yaml").write_text(MODEL)
    settings = LocalSettings(output=tmp_path / "out")
    runs = []
    for here, file in (("models", "m.yaml"), ("elsewhere", "../models/m.yaml"), (".", "models/m.yaml")):
        monkeypatch.chdir(tmp_path / here)
        runs.append(prepare(load_models([Path(file)])[0], settings))
    assert {run.bars for run in runs} == {str(tmp_path / "bars" / "us.csv")}
    assert {run.model.spec.tokenizer.init.path for run in runs} == {str(tmp_path / "w")}
    assert len({run.run for run in runs}) == 1

    # What the command line names starts where the command is.
    (named,) = load_models([Path("models/m.yaml")], overrides=["data.source.path=bars/us.csv"])
    assert settings.bars(named) == str(tmp_path / "bars" / "us.csv")

    # The copy beside a run lies elsewhere, and its path is still the one that was written: it has a part in the hash.
    (run, *_) = runs
    write_model(run.stored, run.paths)
    config = next(iter(run.run_configs.values()))
    write_run(config, run.paths.stage(config.stage).config)
    monkeypatch.chdir(tmp_path / "elsewhere")
    stored = stored_model(settings.output_root, run.model.ref)
    assert stored is not None
    assert (prepare(stored, settings).bars, prepare(stored, settings).run) == (run.bars, run.run)


def test_bars_that_are_elsewhere_are_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.yaml").write_text(MODEL.replace("../bars/us.csv", "bars/us"))
    monkeypatch.chdir(tmp_path)

    def complaint(**changes: Any) -> str:
        (loaded,) = load_models([Path("models/m.yaml")], overrides=["tokenizer.init.scratch.size=tiny"])
        (refusal,) = refusals(loaded, LocalSettings(**changes))
        assert (refusal.field, refusal.exit_code) == ("data.source.path", 66)
        return f"{refusal.fault}; {refusal.way_out}"

    there = f"{tmp_path}/models/bars/us"
    start = f"a relative path is resolved against {tmp_path}/models"
    assert complaint() == f"{there} does not exist; {start}: put the bars there, or correct the path"
    (tmp_path / "bars" / "us").mkdir(parents=True)
    way_out = f"{tmp_path}/bars/us exists: write path: ../bars/us, or set KRONOS_DATA_PATH to {tmp_path}"
    assert complaint() == f"{there} does not exist; {start}; {way_out}"
    (tmp_path / "models" / "bars" / "us").mkdir(parents=True)
    assert complaint().startswith(f"{there} contains no bar files; ")
    assert "relative paths are resolved against KRONOS_DATA_PATH=data; " in complaint(data=Path("data"))


def test_sample_bars_are_advised_only_where_they_would_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sample_command(tmp_path / "data" / "bars" / "us" / "daily") == "kronos data sample --out data"
    assert sample_command(Path("/my data/bars/fx/eurusd")) == "kronos data sample --out '/my data'"
    assert sample_command(tmp_path / "data" / "bars" / "mine") == ""
