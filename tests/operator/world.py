"""A cluster in memory with one model and an operator, for tests of the reconciler."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from typing import Any

from fake_cluster import FakeCluster, Lister, make_model

from kronos_operator.api import Status
from kronos_operator.kube import Key
from kronos_operator.kube.kinds import KRONOSMODEL
from kronos_operator.metrics import Metrics
from kronos_operator.reconcile.reconciler import Reconciler
from kronos_operator.settings import Settings

KEY = Key("ns", "m")


class World:
    """A cluster with one model and an operator."""

    def __init__(self, settings: Settings | None = None, **spec: Any) -> None:
        self.cluster = FakeCluster()
        self.cluster.put(KRONOSMODEL, make_model(**spec))
        self.settings = settings or Settings(default_image="example.org/trainer:1")
        self.lister = Lister(self.cluster)
        self.restart()

    def restart(self) -> None:
        """A new process, which remembers nothing."""
        cluster: Any = self.cluster
        self.metrics = Metrics(now=lambda: self.cluster.now)
        self.reconciler = Reconciler(
            cluster, self.lister, cluster, self.settings, self.metrics, now=lambda: self.cluster.now
        )

    def reconcile(self) -> float | None:
        """Passes until nothing more is due at once."""
        for _ in range(10):
            if ("kronosmodels", "m") in self.cluster.objects:
                self.reconciler.models.put(copy.deepcopy(self.cluster.model()))
            due = asyncio.run(self.reconciler.reconcile(KEY))
            if due is None or due > 0:
                return due
        raise AssertionError("the operator spins")

    def pass_time(self, seconds: float) -> None:
        self.cluster.now += seconds

    @property
    def status(self) -> Status:
        return Status.model_validate(self.cluster.model().get("status") or {})

    def condition(self, kind: str) -> tuple[str, str]:
        found = next(item for item in self.status.conditions if item.type == kind)
        return found.status, found.reason

    @property
    def job(self) -> str:
        """The workload that is live."""
        (name,) = self.cluster.live()
        return name

    def run(self, pods: int = 1) -> str:
        """The current gang starts to run."""
        self.reconcile()
        job = self.job
        self.cluster.make_pods(job, pods)
        self.cluster.run_pods(job)
        self.reconcile()
        return job

    def end(self, code: int = 0, message: str = "") -> None:
        self.cluster.end_pods(self.job, code, message)
        self.reconcile()

    def live_through(self, happenings: Sequence[Callable[[], None]], looks: Sequence[bool]) -> None:
        """All happens in turn; the operator looks after what is marked, and at the end."""
        for happens, look in zip(happenings, looks, strict=True):
            happens()
            if look:
                self.reconcile()
        self.reconcile()

    def step(self) -> None:
        """The current gang reports a step."""
        self.cluster.say(self.job, event="progress", phase="training", step=1, steps=9)
        self.pass_time(31)
        self.reconcile()

    def train(self) -> None:
        """Both stages succeed."""
        for _ in range(2):
            self.run()
            self.end()


def running_world() -> World:
    """A gang that trains, with news in its log."""
    world = World()
    job = world.run()
    world.cluster.say(job, event="progress", phase="training", step=5, steps=10, percent=50.0)
    world.pass_time(31)
    world.reconciler.models.put(copy.deepcopy(world.cluster.model()))
    return world
