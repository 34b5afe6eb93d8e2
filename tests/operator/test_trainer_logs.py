"""What the operator learns from logs that are longer, wilder or shorter-lived than it would like."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from fake_cluster import timestamp

from kronos_operator.api import Status
from kronos_operator.kube import Cluster, Key, LogEnd
from kronos_operator.kube.logs import LogReader
from kronos_operator.plan import AttemptState
from kronos_operator.reconcile.gangs import ObservedGang
from kronos_operator.reconcile.reports import Report
from kronos_operator.reconcile.times import seconds_of
from kronos_operator.reconcile.trainer_logs import TrainerLogs
from kronos_trainer.config import StageName

KEY = Key("ns", "m")
LABELS = {
    "kronos.io/model": "m",
    "kronos.io/stage": "tokenizer",
    "kronos.io/attempt": "0",
    "batch.kubernetes.io/job-completion-index": "0",
}
JOB = {"kind": "Job", "name": "m-tok-0123abcd-0", "uid": "job", "controller": True}
POD = {
    "metadata": {"name": "p", "namespace": "ns", "labels": LABELS, "ownerReferences": [JOB]},
    "status": {"containerStatuses": [{"name": "trainer", "state": {"running": {}}}]},
}
GANG = ObservedGang(run="r", stage=StageName.TOKENIZER, attempt=0, workload=None, pods=(POD,))


LINE = (
    '{"kronos":1,"event":"progress","stage":"tokenizer","run":"5989faac","attempt":0,"phase":"training","epoch":3,'
    '"validationLoss":2.02655532102411,"epochs":50,"step":%d,"steps":10000,"loss":2.0501553058624267,'
    '"learningRate":1.1477443619193254e-06,"gradientNorm":0.2389007642865181,"samplesPerSecond":75.1,"time":"%s"}'
)
RESULT = '{"kronos":1,"event":"result","result":{"stage":"tokenizer","digest":"abc","bestValidationLoss":2.0}}'


class Kubelet:
    """A container's log as the API server hands it on: since a time rounded down to the second, and only its end."""

    def __init__(self) -> None:
        self.written: list[tuple[float, str]] = []  # seconds, line
        self.asked: list[int] = []
        self.readable = True

    def write(self, at: float, *lines: str) -> None:
        self.written += [(at, line) for line in lines]

    async def pod_log(self, *_: Any, since: str, tail_lines: int, **__: Any) -> LogEnd | None:
        self.asked.append(tail_lines)
        if not self.readable:
            return None
        after = int((seconds_of(since) or 0.0) if since else 0)
        reader = LogReader(since)
        for at, line in self.written[-tail_lines:]:
            if at >= after:
                moment = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
                for piece in (moment + " ", line, "\n"):
                    reader.feed(piece.encode())
        return reader.read(whole=True)


class Reader:
    """TrainerLogs and the clock by which they are read."""

    def __init__(self, kubelet: Kubelet) -> None:
        self.now = 1_800_000_000.0
        self.logs = TrainerLogs(cast(Cluster, kubelet), every_seconds=30.0)

    def read(self, state: AttemptState = AttemptState.RUNNING, gang: ObservedGang = GANG) -> Report:
        return asyncio.run(self.logs.read(KEY, gang, state, Status(), self.now))


def test_a_log_is_read_no_more_often_than_the_interval_and_once_more_at_the_end() -> None:
    kubelet = Kubelet()
    reader = Reader(kubelet)
    reads = []
    for seconds in (0.0, 29.0, 0.9, 0.1, 29.9, 0.1):
        reader.now += seconds
        reader.read()
        reads.append(len(kubelet.asked))
    assert reads == [1, 1, 1, 2, 2, 3]
    for _ in range(2):
        reader.read(AttemptState.FAILED)
    assert len(kubelet.asked) == 4


def test_ten_thousand_lines_are_followed_to_the_last_one_and_its_result() -> None:
    kubelet = Kubelet()
    reader = Reader(kubelet)
    for step in range(1, 10_001):
        reader.now += 5
        kubelet.write(reader.now, LINE % (step, timestamp(reader.now)))
        if step % 6 == 0:
            report = reader.read()
            assert (report.progress.step, report.alive_at) == (step, reader.now)
    kubelet.write(reader.now, RESULT)
    report = reader.read(AttemptState.SUCCEEDED)
    assert (report.progress.step, report.result.digest) == (10_000, "abc")


def test_a_log_that_was_never_read_is_read_from_its_end() -> None:
    kubelet = Kubelet()
    reader = Reader(kubelet)
    kubelet.write(reader.now, *(LINE % (step, timestamp(reader.now)) for step in range(10_000)), RESULT)
    report = reader.read(AttemptState.SUCCEEDED)
    assert (report.progress.step, report.result.digest) == (9_999, "abc")
    assert kubelet.asked == [250]


def test_lines_of_the_second_that_was_read_last_are_read_too() -> None:
    kubelet = Kubelet()
    reader = Reader(kubelet)
    kubelet.write(reader.now + 0.25, LINE % (1, timestamp(reader.now)))
    reader.now += 31
    reader.read()
    kubelet.write(reader.now - 30.5, LINE % (2, timestamp(reader.now)))
    reader.now += 31
    assert reader.read().progress.step == 2


@pytest.mark.parametrize("noise", [200 * ["W1125 a library has something to say"], ["x" * 1_000_000]])
def test_what_libraries_print_does_not_drown_a_line_of_the_trainer(noise: list[str]) -> None:
    kubelet = Kubelet()
    reader = Reader(kubelet)
    kubelet.write(reader.now, LINE % (7, timestamp(reader.now)), *noise)
    report = reader.read()
    assert (report.progress.step, report.alive_at) == (7, reader.now)


def test_two_writers_of_one_line_do_not_hide_each_other() -> None:
    kubelet = Kubelet()
    reader = Reader(kubelet)
    first, second = (LINE % (step, timestamp(reader.now)) for step in (1, 2))
    kubelet.write(
        reader.now, f"Downloading: 45%|####     |{first}{second}", '{"kronos":1,"event":"progress","st' + RESULT
    )
    report = reader.read()
    assert (report.progress.step, report.result.digest) == (2, "abc")


def test_a_log_that_was_rotated_goes_on_in_the_new_file() -> None:
    kubelet = Kubelet()
    reader = Reader(kubelet)
    kubelet.write(reader.now, LINE % (1, timestamp(reader.now)))
    reader.read()
    reader.now += 31
    kubelet.written = [(reader.now, LINE % (2, timestamp(reader.now)))]
    assert reader.read().progress.step == 2


def test_the_termination_message_has_the_result_of_a_pod_whose_log_is_gone() -> None:
    kubelet = Kubelet()
    kubelet.readable = False
    ended = {"name": "trainer", "state": {"terminated": {"exitCode": 0, "message": RESULT + "\n"}}}
    pod = POD | {"status": {"containerStatuses": [ended]}}
    report = Reader(kubelet).read(AttemptState.SUCCEEDED, replace(GANG, pods=(pod,)))
    assert report.result.digest == "abc"


def test_only_the_last_words_are_kept_and_they_outlive_a_failed_read() -> None:
    kubelet = Kubelet()
    reader = Reader(kubelet)
    kubelet.write(reader.now, "early", 60000 * "x", "RuntimeError: no space", "")
    reader.read()
    kubelet.readable = False
    reader.now += 31
    reader.read()
    kept = reader.logs.log(KEY)
    assert kept.endswith("x\nRuntimeError: no space")
    assert len(kept) == 2048


def test_of_a_flood_only_the_newest_megabyte_is_kept() -> None:
    reader = LogReader()
    for number in range(200_000):
        reader.feed(f"2026-01-01T00:00:00.{number:09}Z line {number}\n".encode())
    lines = reader.read(whole=True).lines
    assert lines[-1] == "line 199999"
    assert 900_000 < sum(len(line) + 31 for line in lines) <= 1 << 20
