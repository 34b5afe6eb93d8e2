"""The launcher ends with the cause of its ranks, in time, and adds no noise of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from kronos_trainer.config import RunConfig

MakeRun = Callable[..., RunConfig]

# A rank: does what the statements given for it say.
RANK = """
import json, os, pathlib, signal, sys, time
rank = int(os.environ["RANK"])
def cause(code):
    (pathlib.Path(os.environ["KRONOS_CAUSE_DIR"]) / f"rank-{rank}").write_text(str(code))
def leave(code):
    cause(code)
    sys.exit(code)
def trains():
    (pathlib.Path(os.environ["KRONOS_CAUSE_DIR"]) / f"trains-{rank}").touch()
def last_words(**message):
    pathlib.Path(os.environ["KRONOS_TERMINATION_LOG"]).write_text(json.dumps({"kronos": 1, **message}))
def say(text):  # print writes the end of a line by itself, and another rank may come between
    os.write(1, (text + "\\n").encode())
def ready():
    (pathlib.Path(os.environ["READY"]) / str(rank)).touch()
def meet():
    ready()
    while len(list(pathlib.Path(os.environ["READY"]).iterdir())) < int(os.environ["WORLD_SIZE"]): time.sleep(0.02)
exec(sys.argv[1 + min(rank, len(sys.argv) - 2)])
"""
DEFINE_ONCE = """
import os, pathlib, sys
from kronos_trainer.config import load_run
from kronos_trainer.launch.launcher import launch
from kronos_trainer.stopping import StopSignal, end_process
processes, config, *command = sys.argv[1:]
def once():
    run = load_run(pathlib.Path(config))
    return launch(run, command, StopSignal(), processes=int(processes) or None)
"""
LAUNCH = DEFINE_ONCE + "end_process(once())"
LAUNCH_EACH = (
    DEFINE_ONCE
    + """
for code in os.environ["CODES"].split():
    os.environ["CODE"] = code
    print(code, "->", int(once()), flush=True)
"""
)
SAVE_ON_TERM = """
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
trains()
ready()
while not stop: time.sleep(0.02)
time.sleep(4)  # more than a rank gets that does not train yet
say('saved')
leave(75)
"""
BLOCKED = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
trains()
ready()
time.sleep(60)
"""


class Gang:
    """Starts launchers whose ranks do what a test says."""

    def __init__(self, run: RunConfig, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "run.json"
        self.config.write_text(run.dump())
        (directory / "ready").mkdir()

    def start(
        self,
        *ranks: str,
        processes: int | None = 2,
        start_new_session: bool = False,
        program: str = LAUNCH,
        **variables: str,
    ) -> subprocess.Popen[str]:
        """A launcher; the statements are those of rank 0, 1, …, the last ones of all further ranks."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PET_", "OMP_", "OPENBLAS_"))
        }
        environment |= {
            "READY": str(self.directory / "ready"),
            "TMPDIR": str(self.directory),
            "KRONOS_TERMINATION_LOG": str(self.directory / "termination-log"),
            **variables,
        }
        settings = [str(processes or 0), str(self.config)]
        return subprocess.Popen(
            [sys.executable, "-c", program, *settings, sys.executable, "-c", RANK, *ranks],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=start_new_session,
        )

    def run(self, *ranks: str) -> tuple[int, str, str]:
        process = self.start(*ranks)
        stdout, stderr = process.communicate(timeout=60)
        return process.returncode, stdout, stderr

    def last_words(self) -> dict[str, Any]:
        """What the kubelet would keep."""
        message: dict[str, Any] = json.loads((self.directory / "termination-log").read_text())
        return message

    def wait_until_ready(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while len(list((self.directory / "ready").iterdir())) < count:
            assert time.monotonic() < deadline, "the ranks did not start"
            time.sleep(0.05)


def others(stdout: str) -> list[str]:
    """The lines that are not the launcher's own."""
    return [line for line in stdout.splitlines() if not line.startswith('{"kronos":1,')]


def error_of(stdout: str) -> dict[str, Any]:
    """The launcher's last line, which is to be an error."""
    event: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    assert event["event"] == "error"
    return event


@pytest.fixture
def gang(make_run: MakeRun, tmp_path: Path) -> Gang:
    return Gang(make_run(grace_seconds=20), tmp_path)


def test_each_code_comes_through_and_only_the_ranks_speak(gang: Gang) -> None:
    codes = [64, 65, 66, 70, 71, 74, 75, 78, 1, 2]
    # Rank 0 waits until rank 1 has spoken. Its end sends rank 1 SIGTERM, which no rank of ours dies of.
    statement = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.environ["READY"] += "-" + os.environ["CODE"]
pathlib.Path(os.environ["READY"]).mkdir(exist_ok=True)
if rank == 1: print("said", os.environ["CODE"], file=sys.stderr, flush=True)
meet()
leave(int(os.environ["CODE"]))
"""
    process = gang.start(statement, program=LAUNCH_EACH, CODES=" ".join(map(str, codes)))
    stdout, stderr = process.communicate(timeout=120)
    assert others(stdout) == [f"{code} -> {code}" for code in codes]
    said = stderr.splitlines()
    assert len(said) == 2 * len(codes)
    for code, reason, verdict in zip(codes, said[::2], said[1::2], strict=True):
        assert reason == f"said {code}"
        assert verdict.startswith("rank ") and verdict.endswith(f" ended with exit code {code}")


def test_threads_of_the_ranks_sleep_while_they_wait_unless_the_user_sets_otherwise(gang: Gang) -> None:
    check = "say(os.environ['OMP_WAIT_POLICY'] + ' ' + os.environ['OPENBLAS_THREAD_TIMEOUT']); leave(0)"
    for chosen, expected in ({}, "PASSIVE 4"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE 4"):
        stdout, _ = gang.start(check, processes=1, **chosen).communicate(timeout=120)
        assert stdout.splitlines()[-1] == expected


def test_success_leaves_stdout_unchanged_and_nothing_behind(gang: Gang) -> None:
    line = json.dumps({"text": "ünï"})
    threads = max(1, (os.cpu_count() or 1) // 2)
    check = f"leave(int(os.environ['OMP_NUM_THREADS'] != '{threads}'))"
    result, stdout, stderr = gang.run(f"say({line!r}); leave(0)", check)
    *launchers, said = stdout.splitlines()  # on a busy machine it is alive for a while before ranks have started
    assert (result, said, stderr) == (0, line, "")
    assert {json.loads(one)["phase"] for one in launchers} == {"starting"}
    assert not list(gang.directory.glob("kronos-launch-*"))


def test_the_cause_is_the_first_in_the_contracts_order_not_the_first_in_time(gang: Gang) -> None:
    result, _, stderr = gang.run(
        "meet(); leave(74)", "signal.signal(signal.SIGTERM, lambda *_: leave(65)); meet(); time.sleep(60)"
    )
    assert result == 65 and "rank 1" in stderr


def test_a_rank_that_is_killed_is_named_and_the_others_get_five_seconds(gang: Gang) -> None:
    # Rank 0 does not answer SIGTERM, as one that is blocked in a collective.
    process = gang.start(BLOCKED, "meet(); os.kill(os.getpid(), signal.SIGKILL)")
    gang.wait_until_ready(2)
    began = time.monotonic()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert time.monotonic() - began < 15  # torchrun alone waits 30 s
    message = error_of(stdout)
    assert message["exitCode"] == 1 and "rank 1 was killed by SIGKILL" in message["message"]
    assert stderr == ""


def test_a_stop_that_a_crash_caused_is_still_a_crash(gang: Gang) -> None:
    result, stdout, _ = gang.run(
        "signal.signal(signal.SIGTERM, lambda *_: leave(75)); meet(); time.sleep(60)", "meet(); os._exit(3)"
    )
    assert result == 1 and "rank 1 ended with exit code 3" in error_of(stdout)["message"]


def test_sigterm_reaches_every_rank_and_their_saving_is_waited_for_even_if_it_comes_twice(gang: Gang) -> None:
    process = gang.start(SAVE_ON_TERM)
    gang.wait_until_ready(2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert (
        process.returncode == 75
        and others(stdout) == ["saved", "saved"]
        and stderr == "rank 0 ended with exit code 75\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_in_the_launchers_terminal_is_a_stop_and_so_is_closing_it(gang: Gang, number: signal.Signals) -> None:
    process = gang.start(SAVE_ON_TERM, start_new_session=True)
    gang.wait_until_ready(2)
    os.killpg(process.pid, number)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 75 and others(stdout) == ["saved", "saved"]


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_ctrl_c_after_a_first_signal_kills_the_ranks_at_once(gang: Gang, first: signal.Signals) -> None:
    process = gang.start(BLOCKED)
    gang.wait_until_ready(2)
    process.send_signal(first)
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "had to be killed" in stdout
    assert time.monotonic() - began < 5  # the grace period leaves 10 s


def test_ranks_that_do_not_stop_are_killed_inside_the_grace_period(make_run: MakeRun, tmp_path: Path) -> None:
    gang = Gang(make_run(grace_seconds=15), tmp_path)
    process = gang.start(BLOCKED)
    gang.wait_until_ready(2)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert time.monotonic() - began < 15


def test_a_stop_before_any_rank_can_save_loses_nothing_and_is_no_crash(gang: Gang) -> None:
    process = gang.start("ready(); time.sleep(60)")
    gang.wait_until_ready(2)
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate(timeout=60)
    error = error_of(stdout)
    assert (process.returncode, error["exitCode"], error["cause"]) == (75, 75, "Stopped")
    assert gang.last_words() == error


def test_ranks_that_do_not_train_yet_are_not_waited_for(gang: Gang) -> None:
    """As in an import of seconds, or waiting for a rank that is gone; the grace period would be ten seconds."""
    process = gang.start("signal.signal(signal.SIGTERM, signal.SIG_IGN); ready(); time.sleep(60)")
    gang.wait_until_ready(2)
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate(timeout=60)
    assert (process.returncode, error_of(stdout)["cause"]) == (75, "Stopped")


def test_a_stop_after_the_first_line_is_a_stop(gang: Gang) -> None:
    """That line comes before torch is imported."""
    process = gang.start("ready(); time.sleep(60)")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["phase"] == "starting"
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, error_of(stdout)["cause"], stderr) == (75, "Stopped", "")
    assert not list((gang.directory / "ready").iterdir())


@pytest.mark.parametrize(("arguments", "first_import"), [(["launch"], "kronos_trainer.launch"), ([], "torch")])
def test_a_stop_while_modules_are_imported_is_remembered(
    trainable: MakeRun, tmp_path: Path, arguments: list[str], first_import: str
) -> None:
    """The launcher and a rank by itself, each stopped as it imports the first thing that takes time."""
    (tmp_path / "run.json").write_text(trainable().dump())
    program = """
import os, runpy, signal, sys
stop_at = sys.argv.pop(1)
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Stop())
runpy.run_module("kronos_trainer", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, first_import, *arguments, "--run", str(tmp_path / "run.json")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 75, done.stderr
    assert error_of(done.stdout)["cause"] == "Stopped" and "Traceback" not in done.stderr


def test_the_last_words_are_those_of_the_cause(gang: Gang) -> None:
    say = "last_words(event='error', exitCode={0}, message='rank ' + str(rank)); cause({0}); meet(); leave({0})"
    assert gang.run(say.format(74), say.format(65))[0] == 65
    assert gang.last_words() == {"kronos": 1, "event": "error", "exitCode": 65, "message": "rank 1"}


def test_the_last_words_of_a_success_are_the_result_of_rank_0(gang: Gang) -> None:
    assert gang.run("last_words(event='result', result={'digest': str(rank)}); leave(0)")[0] == 0
    assert gang.last_words() == {"kronos": 1, "event": "result", "result": {"digest": "0"}}


LAUNCH_LIMITED = (
    DEFINE_ONCE
    + """
from kronos_trainer.launch import launcher as module
from kronos_trainer.launch.memory import memory
groups = pathlib.Path(os.environ["GROUPS"])
module.memory = lambda: memory(groups / "process", groups)
end_process(once())
"""
)


def test_a_rank_that_the_kernel_killed_for_memory_is_72_and_names_the_limit(gang: Gang) -> None:
    groups = gang.directory
    (groups / "process").write_text("0::/\n")
    (groups / "memory.max").write_text(f"{2**30}\n")
    (groups / "memory.peak").write_text(f"{2**29}\n")
    events = groups / "memory.events"
    events.write_text("oom 0\noom_kill 3\n")
    # Rank 0 does not answer SIGTERM: it is killed by the launcher, and not for memory.
    kernel = f"pathlib.Path({str(events)!r}).write_text('oom 1\\noom_kill 4\\n')"
    process = gang.start(
        BLOCKED,
        f"meet(); {kernel}; os.kill(os.getpid(), signal.SIGKILL)",
        program=LAUNCH_LIMITED,
        GROUPS=str(groups),
    )
    stdout, _ = process.communicate(timeout=60)
    error = error_of(stdout)
    assert process.returncode == error["exitCode"] == 72
    assert (error["limitBytes"], error["peakBytes"]) == (2**30, 2**29)
    assert "rank 1 was killed for lack of memory: the limit is 1.0 GiB" in error["message"]
    assert "resources.memory" in error["message"] and "512.0 MiB" in error["message"]
    assert gang.last_words() == error


def node(rank: int, port: int) -> dict[str, str]:
    address = {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port)}
    return {"PET_NNODES": "2", "PET_NODE_RANK": str(rank), "PET_NPROC_PER_NODE": "2", **address}


def test_two_nodes_form_one_gang_and_the_second_waits_for_the_first(gang: Gang) -> None:
    # In one write: PYTHONUNBUFFERED makes several of what print is given.
    say = "os.write(1, f\"{rank} {os.environ['LOCAL_RANK']} {os.environ['WORLD_SIZE']}\\n\".encode()); leave(0)"
    port = free_port()
    second = gang.start(say, processes=None, **node(1, port))
    time.sleep(2)
    assert second.poll() is None
    first = gang.start(say, processes=None, **node(0, port))
    outputs = [process.communicate(timeout=60) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], outputs
    assert [sorted(others(stdout)) for stdout, _ in outputs] == [["0 0 4", "1 1 4"], ["2 0 4", "3 1 4"]]
    assert [stderr for _, stderr in outputs] == ["", ""]


def test_each_node_ends_with_the_cause_of_its_own_ranks(gang: Gang) -> None:
    port = free_port()
    # The cause stands before they meet: the first rank to end ends the other one of its node.
    statements = "code = 71 if rank == 3 else 74; cause(code); meet(); leave(code)"
    processes = [gang.start(statements, processes=None, **node(rank, port)) for rank in (0, 1)]
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [74, 71]


def test_an_absent_first_node_is_said_after_the_timeout_of_the_rendezvous(gang: Gang) -> None:
    process = gang.start("leave(0)", processes=None, PET_RDZV_CONF="is_host=0,timeout=1", **node(1, free_port()))
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    error = error_of(stdout)
    assert "the first node does not answer at 127.0.0.1:" in error["message"] and "PET_MASTER_ADDR" in error["message"]
    assert error["cause"] == "NodesDidNotMeet"


def test_a_gang_that_does_not_come_together_has_lost_nothing(gang: Gang) -> None:
    process = gang.start("leave(0)", processes=None, PET_RDZV_CONF="timeout=1", **node(0, free_port()))
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    error = error_of(stdout)
    assert "the nodes did not meet: Timed out" in error["message"] and "1/2 clients joined" in error["message"]
    assert (error["exitCode"], error["cause"]) == (75, "NodesDidNotMeet")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stop_while_waiting_for_another_node_is_a_stop_at_once(gang: Gang, rank: int) -> None:
    port = free_port()
    # For node 1 somebody listens at the first node's port, and says nothing.
    with nullcontext() if rank == 0 else socket.create_server(("127.0.0.1", port)) as first:
        process = gang.start("leave(0)", processes=None, **node(rank, port))
        if first is None:
            wait_until_open(port)
        else:
            first.settimeout(60)
            first.accept()[0].close()
        process.send_signal(signal.SIGTERM)
        stdout, _ = process.communicate(timeout=60)
    assert (process.returncode, error_of(stdout)["cause"]) == (75, "Stopped")
    assert gang.last_words()["cause"] == "Stopped"


def test_an_unreadable_run_config_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "kronos_trainer", "launch", "--run", str(tmp_path / "run.json")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 64 and "run.json" in done.stderr and "Traceback" not in done.stderr


def wait_until_open(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "the first node does not listen"
            time.sleep(0.1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
