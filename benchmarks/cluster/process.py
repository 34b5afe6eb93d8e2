"""A process under measurement: what it costs, and what the operator's says in /metrics."""

from __future__ import annotations

import asyncio
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from control_plane import free_port
from operator_process import operator
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.cluster.faked import FakedCluster

_LOOK = 5.0  # seconds
_CALM = 0.2  # of a core


@dataclass(frozen=True)
class Scrape:
    """What /metrics said at one moment."""

    models: int  # that this process has reconciled at least once, and that exist
    succeeded: int
    waiting: int  # in the queue, due now
    errors: int
    durations: tuple[tuple[float, float], ...]  # the histogram of reconciliations: upper bound, how many up to it

    def quantile(self, q: float) -> float:
        """A quantile of the durations in seconds, interpolated within its bucket as Prometheus does."""
        wanted = q * self.durations[-1][1]
        low, below = 0.0, 0.0
        for bound, count in self.durations:
            if count >= wanted:
                return low if bound == float("inf") else low + (bound - low) * (wanted - below) / (count - below or 1)
            low, below = bound, count
        return low


class Measured:
    """A running process."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    @property
    def peak_mib(self) -> float:
        """The largest resident set that it ever had, as the kernel counts it."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024

    @property
    def cpu_seconds(self) -> float:
        """What it has used of the processors."""
        times = self._process.cpu_times()
        return float(times.user + times.system)


class Operator(Measured):
    """A running operator."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        super().__init__(process.pid)
        self._port = port

    def scrape(self) -> Scrape | None:
        """What /metrics says; None while nobody answers."""
        if not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError("the operator has ended; see its log")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=60) as response:
                text = response.read().decode()
        except OSError:
            return None
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        models = [sample for sample in samples if sample.name == "kronos_models"]
        buckets = [sample for sample in samples if sample.name == "kronos_reconcile_duration_seconds_bucket"]
        values = {sample.name: sample.value for sample in samples if not sample.labels}
        return Scrape(
            models=int(sum(sample.value for sample in models)),
            succeeded=int(sum(sample.value for sample in models if sample.labels["phase"] == "Succeeded")),
            waiting=int(values["kronos_queue_depth"]),
            errors=int(values["kronos_reconcile_errors_total"]),
            durations=tuple((float(sample.labels["le"]), sample.value) for sample in buckets),
        )


async def quiet(cluster: FakedCluster) -> None:
    """Waits until the cluster's programs have taken in what there is, and have nothing to do for some seconds."""
    programs = [Measured(cluster.pid(name)) for name in ("kube-apiserver", "kube-controller-manager", "kwok")]
    used = 1.0
    while used > _CALM:
        before = sum(one.cpu_seconds for one in programs)
        await asyncio.sleep(_LOOK)
        used = (sum(one.cpu_seconds for one in programs) - before) / _LOOK


@contextmanager
def running(cluster: FakedCluster) -> Iterator[Operator]:
    """The operator with its default settings, watching all namespaces; killed, as by kill -9, when the block ends."""
    port = free_port()
    environ = {"KRONOS_NAMESPACES": "", "KRONOS_PROGRESS_SECONDS": "", "KRONOS_METRICS_PORT": str(port)}
    with operator(cluster, "", cluster.operator_log, **environ) as process:
        yield Operator(process, port)
