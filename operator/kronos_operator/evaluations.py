"""Prometheus metrics of what evaluations have found, and of runs that wait for somebody to promote them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from kronos_operator.api import Evaluated, Status
from kronos_operator.kube import Key
from kronos_operator.plan.restarts import HELD
from kronos_trainer.config import Verdict


@dataclass(frozen=True, kw_only=True)
class _Found:
    evaluation: Evaluated | None
    held_since: float | None


class Evaluations(Collector):
    """The newest evaluation of each model that exists."""

    def __init__(self) -> None:
        self._found: dict[Key, _Found] = {}

    def saw(self, key: Key, status: Status) -> None:
        """Takes in what a status says."""
        self._found[key] = _Found(evaluation=status.evaluation, held_since=held_since(status))

    def forget(self, key: Key) -> None:
        """Lets a deleted model go."""
        self._found.pop(key, None)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics at the moment of a scrape."""
        improvement = _gauge("improvement", "1 - loss of the model / loss of the rival, on the test span.", "rival")
        verdict = _gauge("verdict", "1 for the verdict of the newest evaluation.", "verdict")
        dates = _gauge("evaluation_dates", "Dates of the test span that were forecast from.")
        coverage = _gauge(
            "coverage", "Share of closes inside the central band, 80 % wide for band 80.", "band", "calibrated"
        )
        held = _gauge("promotion_held", "Since when a run is held by the promotion gate, in seconds since the epoch.")
        for key, found in self._found.items():
            if found.held_since is not None:
                held.add_metric(list(key), found.held_since)
            one = found.evaluation
            if one is None:
                continue
            for comparison in one.comparisons:
                if comparison.improvement is not None:
                    improvement.add_metric([*key, comparison.rival], comparison.improvement)
            if one.verdict in list(Verdict):
                verdict.add_metric([*key, one.verdict], 1.0)
            dates.add_metric(list(key), one.dates)
            for share, calibrated in ((one.coverage80, "false"), (one.calibrated80, "true")):
                if share is not None:
                    coverage.add_metric([*key, "80", calibrated], share)
        yield from (improvement, verdict, dates, coverage, held)


def held_since(status: Status) -> float | None:
    """When the promotion gate has held the run, None if nobody has to decide about it."""
    finished = status.condition("Finished")
    if finished is None or finished.status != "True" or finished.reason != HELD:
        return None
    return finished.last_transition_time


def _gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"kronos_model_{name}", about, labels=["namespace", "model", *labels])
