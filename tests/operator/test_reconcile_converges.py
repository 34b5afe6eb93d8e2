"""Random events, delays and deaths of the operator: every model comes to its end, with one gang at a time."""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from typing import Any

from fake_cluster import Crash, FakeCluster, Lister, frozen_runs, make_model
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kronos_operator.api import Status
from kronos_operator.kube import ClusterError, Key, Rejected
from kronos_operator.kube.kinds import CONFIGMAP, KRONOSMODEL, POD
from kronos_operator.metrics import Metrics
from kronos_operator.names import CANCEL_ANNOTATION, RETRAIN_ANNOTATION
from kronos_operator.reconcile.actuator import Refused
from kronos_operator.reconcile.causes import has_ended
from kronos_operator.reconcile.gangs import is_lost
from kronos_operator.reconcile.reconciler import Reconciler
from kronos_operator.reconcile.settled import Arrivals
from kronos_operator.settings import Settings

KEY = Key("ns", "m")
SETTINGS = Settings(default_image="i")


class Operator(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cluster = FakeCluster()
        self.cluster.put(KRONOSMODEL, make_model(childTTLSecondsAfterFinished=300))
        self.lister = Lister(self.cluster)
        self.requests = 0
        self.succeeded: set[str] = set()
        self.settled = 0  # how often the model was found so
        self.dies()

    @rule()
    def dies(self) -> None:
        cluster: Any = self.cluster
        self.reconciler = Reconciler(cluster, self.lister, cluster, SETTINGS, Metrics(), now=lambda: self.cluster.now)
        self.lister.thaw()
        self.reconciler.models.put(copy.deepcopy(self.cluster.model()))

    @rule(crash=st.sampled_from([None, None, None, 0, 1, 2, 3]))
    def reconciles(self, crash: int | None) -> None:
        self.cluster.crash_in = crash
        try:
            asyncio.run(self.reconciler.reconcile(KEY))
        except Crash:
            self.dies()
        except (ClusterError, Refused):
            pass  # the queue would log and repeat it
        finally:
            self.cluster.crash_in = None

    @rule()
    def model_is_seen(self) -> None:
        self.reconciler.models.put(copy.deepcopy(self.cluster.model()))

    @rule()
    def watch_lags(self) -> None:
        self.lister.freeze()

    @rule()
    def watch_catches_up(self) -> None:
        self.lister.thaw()

    @rule(seconds=st.sampled_from([1.0, 15.0, 61.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.cluster.now += seconds

    @rule(nodes=st.sampled_from([1, 2]))
    def pods_run(self, nodes: int) -> None:
        for name in self.cluster.live():
            self.cluster.make_pods(name, nodes)
            for pod in self.cluster.pods(name):
                pod["spec"] = {"nodeName": "n"}
            self.cluster.run_pods(name)

    @rule(code=st.sampled_from([0, 0, 0, 1, 65, 71, 75, 137]))
    def gang_ends(self, code: int) -> None:
        for name in self.cluster.live():
            if self.cluster.pods(name):
                self.end(name, code)

    def end(self, name: str, code: int) -> None:
        going = not self.workload(name)["metadata"].get("deletionTimestamp")
        if code == 0 and going:
            self.succeeded.add(name)
        self.cluster.end_pods(name, code)

    @precondition(lambda self: self.cluster.live())
    @rule()
    def a_pod_is_evicted(self) -> None:
        for name in self.cluster.live():
            for pod in self.cluster.pods(name)[:1]:
                self.cluster.delete_pod(pod)

    @rule()
    def evicted_pods_are_gone(self) -> None:
        for name in self.cluster.live():
            for pod in self.cluster.pods(name):
                if pod["metadata"].get("deletionTimestamp"):
                    self.cluster.remove(POD, pod["metadata"]["name"])
                    self.cluster.finish(name, failed=True)

    @rule(of_attempts=st.booleans(), of_runs=st.booleans())
    def config_maps_are_deleted(self, of_attempts: bool, of_runs: bool) -> None:
        runs = frozen_runs(self.cluster)
        for name in self.cluster.names(CONFIGMAP):
            if of_runs if name in runs else of_attempts:
                self.cluster.remove(CONFIGMAP, name)

    @rule()
    def collector_runs(self) -> None:
        self.cluster.collect()

    @rule(epochs=st.sampled_from([30, 31]))
    def spec_changes(self, epochs: int) -> None:
        self.cluster.change_spec(predictor={"epochs": epochs})

    @rule(
        policy=st.sampled_from(["Finish", "Cancel", "Manual"]), suspend=st.booleans(), image=st.sampled_from(["a", "b"])
    )
    def settings_change(self, policy: str, suspend: bool, image: str) -> None:
        self.cluster.change_spec(updatePolicy=policy, suspend=suspend, image=image)

    @rule()
    def retraining_is_asked_for(self) -> None:
        self.requests += 1
        self.cluster.annotate(RETRAIN_ANNOTATION, f"r{self.requests}")

    @rule()
    def cancelling_is_asked_for(self) -> None:
        self.requests += 1
        self.cluster.annotate(CANCEL_ANNOTATION, f"c{self.requests}")

    @rule(rejected=st.booleans())
    def a_quota_is_full(self, rejected: bool) -> None:
        self.cluster.reject = {"Job": Rejected("exceeded quota", status=403)} if rejected else {}

    @invariant()
    def one_gang_at_a_time(self) -> None:
        assert len([name for name in self.cluster.live() if not self.lost(name)]) <= 1

    @invariant()
    def what_was_trained_is_not_trained_again(self) -> None:
        made = Counter(write.split()[-1] for write in self.cluster.writes if write.startswith("create jobs"))
        assert all(made[name] == 1 for name in self.succeeded)

    @invariant()
    def what_it_writes_is_a_status(self) -> None:
        Status.model_validate(self.cluster.model().get("status") or {})

    @invariant()
    def a_settled_model_needs_no_look(self) -> None:
        """A new process that finds everything as it is now has nothing to write."""
        arrivals = Arrivals(SETTINGS, lambda: self.cluster.now)
        arrivals.model(self.cluster.model())
        for body in self.cluster.children():
            arrivals.child(KEY, body)
        if arrivals.look_after(KEY) == 0.0:
            return
        cluster: Any = copy.deepcopy(self.cluster)
        cluster.writes.clear()
        reconciler = Reconciler(cluster, Lister(cluster), cluster, SETTINGS, Metrics(), now=lambda: cluster.now)
        reconciler.models.put(copy.deepcopy(cluster.model()))
        asyncio.run(reconciler.reconcile(KEY))
        assert cluster.writes == []
        self.settled += 1

    def lost(self, name: str) -> bool:
        """Whether its node has not answered for so long that the next attempt may start, and fences it off."""
        alive = [pod for pod in self.cluster.pods(name) if not has_ended(pod)]
        return bool(alive) and all(is_lost(pod, self.cluster.now) for pod in alive)

    def workload(self, name: str) -> dict[str, Any]:
        return next(body for body in self.cluster.workloads() if body["metadata"]["name"] == name)

    def teardown(self) -> None:
        """From here on nothing goes wrong, and a request must be answered."""
        self.cluster.reject = {}
        self.cluster.change_spec(suspend=False, updatePolicy="Finish")
        self.retraining_is_asked_for()
        self.lister.thaw()
        for _ in range(60):
            self.model_is_seen()
            self.reconciles(None)
            self.one_gang_at_a_time()
            self.a_settled_model_needs_no_look()
            self.pods_run(1)
            for name in self.cluster.live():
                if all(pod["status"]["phase"] != "Pending" for pod in self.cluster.pods(name)):
                    self.end(name, 0)
            self.cluster.now += 200  # also lost pods and back-off pass
            status = Status.model_validate(self.cluster.model()["status"])
            done = status.run is not None and status.run.outcome == "Succeeded"
            if done and status.run is not None and status.run.trigger == f"r{self.requests}":
                break
        else:
            raise AssertionError(f"no end: {status.run}")
        assert status.phase == "Succeeded"
        assert status.artifacts is not None
        assert status.artifacts.run == status.run.id
        settled = self.settled
        for _ in range(8):
            self.model_is_seen()
            self.reconciles(None)
            self.cluster.collect()
            self.a_settled_model_needs_no_look()
            self.cluster.now += 100
        assert self.settled > settled


Operator.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestOperator = Operator.TestCase
