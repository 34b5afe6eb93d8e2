"""Reads the log of rank 0, no more often than asked to, and keeps what it reported. Called by the reconciler."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kronos_operator.api import Status
from kronos_operator.kube import Cluster, Key
from kronos_operator.plan import AttemptState
from kronos_operator.reconcile.causes import LAST_WORDS, container_status, last_message
from kronos_operator.reconcile.gangs import ObservedGang
from kronos_operator.reconcile.reports import Report, read_report

_AT_ONCE = 20
_FIRST_LINES = 250  # of a log that was not read before; libraries print between the trainer's own lines
_MORE_LINES = 5000  # since the last read; what is lost beyond is older than what is kept
_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class _ReadLog:
    """The log of one attempt, as far as it was read."""

    attempt: tuple[str, int]
    report: Report
    log: str  # its last characters
    since: str  # the kubelet's time of the last line
    read_at: float
    at_end: bool


class TrainerLogs:
    """The logs of the current attempts."""

    def __init__(self, cluster: Cluster, every_seconds: float) -> None:
        self._cluster = cluster
        self._every = every_seconds
        self._read: dict[Key, _ReadLog] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def read(self, key: Key, gang: ObservedGang, state: AttemptState, before: Status, now: float) -> Report:
        """The newest report of the model's current gang; its log is read again if that is due, and once at its end.

        A log that cannot be read is no silence: the gang then counts as alive.
        """
        attempt = (gang.run, gang.attempt)
        known = self._read.get(key)
        if known is None or known.attempt != attempt:
            known = _ReadLog(
                attempt=attempt, report=_remembered(before, gang), log="", since="", read_at=0.0, at_end=False
            )
        ended = not state.live
        pod = gang.first_pod
        due = now - known.read_at >= self._every or (ended and not known.at_end)
        readable = state is AttemptState.RUNNING or state is AttemptState.STOPPING or ended
        if pod is None or not readable or not due or (ended and known.at_end):
            return known.report
        container = container_status(pod)
        if "name" not in container:
            return known.report
        async with self._slots:
            end = await self._cluster.pod_log(
                pod["metadata"]["namespace"],
                pod["metadata"]["name"],
                container=container["name"],
                since=known.since,
                tail_lines=_MORE_LINES if known.since else _FIRST_LINES,
                timeout=_SECONDS,
            )
        lines = [] if end is None else end.lines
        if ended:
            # The kubelet keeps the last line apart, for as long as the pod is there.
            lines = [*lines, *last_message(pod).splitlines()]
        report = read_report(lines, known.report)
        if report.logged_at is not None:
            report = replace(report, logged_at=min(report.logged_at, now))
        if _content(report) != _content(known.report) or (end is None and not ended):
            report = replace(report, alive_at=now)
        self._read[key] = _ReadLog(
            attempt=attempt,
            report=report,
            log=("" if end is None else _joined(known.log, end.lines)) or known.log,
            since=known.since if end is None else end.newest,
            read_at=now,
            at_end=ended,
        )
        return report

    def log(self, key: Key) -> str:
        """The end of the log that was read last."""
        known = self._read.get(key)
        return "" if known is None else known.log

    def forget(self, key: Key) -> None:
        """Forgets a model: it is gone, or nothing of it runs."""
        self._read.pop(key, None)


def _joined(log: str, lines: Sequence[str]) -> str:
    return "\n".join([log, *lines[-LAST_WORDS:]]).strip()[-LAST_WORDS:]


def _content(report: Report) -> tuple[object, ...]:
    return report.progress, report.result, report.error


def _remembered(before: Status, gang: ObservedGang) -> Report:
    """What an operator that was restarted knows from the status it wrote."""
    progress = before.progress
    same = progress is not None and progress.attempt == gang.attempt and progress.stage is gang.stage
    return Report(has_progress=same and progress is not None and bool(progress.step), checkpoint=before.checkpoint)
