"""Prometheus metrics of the operator. Labels are bounded: by fixed words, or by the models that exist now."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from kronos_operator.api import Phase, Status
from kronos_operator.evaluations import Evaluations
from kronos_operator.kube import Key

_STAGE_SECONDS = (60, 300, 900, 1800, 3600, 7200, 14400, 28800, 57600, 115200, 230400)


class Metrics:
    """All metrics, in a registry of their own."""

    def __init__(self, queue_depth: Callable[[], int] = lambda: 0, *, now: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        self._now = now
        self._phases: dict[Key, str] = {}
        self._used_at: dict[Key, float] = {}
        self.queue_depth = queue_depth
        self.reconcile_seconds = Histogram(
            "kronos_reconcile_duration_seconds", "Duration of one reconciliation.", registry=self.registry
        )
        self.reconcile_errors = Counter(
            "kronos_reconcile_errors", "Reconciliations that failed; each is retried.", registry=self.registry
        )
        self._restarts = Counter(
            "kronos_restarts", "Restarts of gangs, by cause.", ["namespace", "cause"], registry=self.registry
        )
        self._stage_seconds = Histogram(
            "kronos_stage_duration_seconds",
            "Duration of a finished stage, as reported by its trainer.",
            ["stage"],
            buckets=_STAGE_SECONDS,
            registry=self.registry,
        )
        self._checkpoints: dict[Key, float] = {}
        self._gpu_hours = Counter(
            "kronos_gpu_hours", "GPU hours of running gangs.", ["namespace", "model"], registry=self.registry
        )
        self._evaluations = Evaluations()
        self.registry.register(_Now(self))
        self.registry.register(self._evaluations)

    def saw(self, key: Key, before: Status, after: Status) -> None:
        """Counts what is new in a status."""
        self._phases[key] = after.phase or Phase.PENDING
        self._evaluations.saw(key, after)
        self._count_restarts(key, before, after)
        done = {stage.hash for stage in (before.run.stages if before.run is not None else ()) if stage.done}
        for stage in after.run.stages if after.run is not None else ():
            if stage.done and stage.hash not in done and "seconds" in stage.metrics:
                self._stage_seconds.labels(stage.stage.value).observe(stage.metrics["seconds"])
        if after.checkpoint is not None and after.phase is Phase.TRAINING:
            self._checkpoints[key] = after.checkpoint.time
        else:
            self._checkpoints.pop(key, None)

    def used(self, key: Key, gpus: int, now: float, *, running: bool) -> None:
        """Counts GPU hours since the last call for a gang that runs."""
        last = self._used_at.pop(key, None)
        if running:
            self._used_at[key] = now
            if last is not None and gpus:
                self._gpu_hours.labels(*key).inc(gpus * max(0.0, now - last) / 3600)

    def forget(self, key: Key) -> None:
        """Lets the metrics of a deleted model go."""
        self._phases.pop(key, None)
        self._used_at.pop(key, None)
        self._checkpoints.pop(key, None)
        self._evaluations.forget(key)
        with suppress(KeyError):
            self._gpu_hours.remove(*key)

    def phases(self) -> Tally[tuple[str, str]]:
        """Number of models in each namespace and phase."""
        return Tally((key.namespace, phase) for key, phase in self._phases.items())

    def checkpoint_ages(self) -> dict[Key, float]:
        """Seconds since the newest checkpoint of each stage that is going on."""
        return {key: max(0.0, self._now() - moment) for key, moment in self._checkpoints.items()}

    def _count_restarts(self, key: Key, before: Status, after: Status) -> None:
        if before.run is None or after.run is None or before.run.id != after.run.id:
            return
        old_counts, new_counts = before.run.restarts, after.run.restarts
        pairs = {
            "crash": (old_counts.crashes, new_counts.crashes),
            "disruption": (old_counts.disruptions, new_counts.disruptions),
            "stall": (old_counts.stalls, new_counts.stalls),
            "out_of_memory": (old_counts.out_of_memory, new_counts.out_of_memory),
        }
        for cause, (old, new) in pairs.items():
            self._restarts.labels(key.namespace, cause).inc(max(0, new - old))


class _Now(Collector):
    """What is counted at the moment of the scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[GaugeMetricFamily]:
        models = GaugeMetricFamily("kronos_models", "Models, by phase.", labels=["namespace", "phase"])
        counted = self._metrics.phases()
        for namespace in {namespace for namespace, _ in counted}:
            for phase in Phase:
                models.add_metric([namespace, phase.value], counted[namespace, phase.value])
        yield models
        ages = GaugeMetricFamily(
            "kronos_checkpoint_age_seconds",
            "Seconds since the newest checkpoint of a running stage.",
            labels=["namespace", "model"],
        )
        for key, age in self._metrics.checkpoint_ages().items():
            ages.add_metric(list(key), age)
        yield ages
        yield GaugeMetricFamily("kronos_queue_depth", "Models that wait to be reconciled.", self._metrics.queue_depth())
