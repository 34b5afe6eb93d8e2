"""The reconciler against a cluster in memory: what it does, in which order, and what it tells."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fake_cluster import JOB, PYTORCHJOB, Crash, FakeCluster, Lister, frozen_runs, make_model, timestamp

from kronos_operator.api import Phase, Progress, Status
from kronos_operator.kube import ClusterError, Key, Kind, Rejected
from kronos_operator.kube.kinds import (
    CONFIGMAP,
    CORE_EVENT,
    KRONOSMODEL,
    NODE,
    POD,
    PVC,
    SERVICE,
    WORKLOAD,
)
from kronos_operator.metrics import Metrics
from kronos_operator.names import CANCEL_ANNOTATION, RETRAIN_ANNOTATION
from kronos_operator.policy import Policy
from kronos_operator.reconcile.reconciler import Reconciler
from kronos_operator.reconcile.status import worth_writing
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


def test_the_thin_path() -> None:
    world = World()
    world.reconcile()
    assert world.cluster.writes[:2] == [f"create configmaps {frozen_runs(world.cluster)[0]}", "status"]
    assert [write.split()[1] for write in world.cluster.writes[2:]] == ["configmaps", "jobs"]
    job = world.run()
    assert "-tok-" in job
    assert world.condition("Ready") == ("True", "TrainingTokenizer")
    world.end()
    assert "-pred-" in world.run()
    world.end()
    status = world.status
    assert world.condition("Finished") == ("True", "Succeeded")
    assert world.condition("Available") == ("True", "Published")
    assert status.phase == "Succeeded"
    assert status.history[0].run == status.artifacts.run == status.run.id
    # 7 children, and a status for each: begun, running, next stage, running, done.
    assert len(world.cluster.writes) <= 12
    before = list(world.cluster.writes)
    world.restart()
    world.reconcile()
    assert world.cluster.writes == before


def test_progress_metrics_and_artifacts_come_from_the_log_of_rank_0() -> None:
    world = World()
    job = world.run()
    world.cluster.say(job, event="phase", phase="training", step=10, steps=100, percent=10.0, etaSeconds=7980)
    world.cluster.logs[f"{job}-0"] += '{"kronos": 1, "event": "progress", "loss": NaN, "percent": \nwarning: x\n'
    world.pass_time(31)
    world.reconcile()
    progress = world.status.progress
    assert (progress.summary, progress.eta, progress.step, progress.epoch) == ("10%", "2h13m", 10, None)

    world.cluster.say(job, event="phase", phase="saving", step=40, steps=100, percent=40.0)
    world.pass_time(5)
    world.cluster.say(job, event="progress", phase="training", step=41, steps=100, percent=41.0)
    world.pass_time(26)
    world.reconcile()
    assert world.status.checkpoint.step == 40
    writes = len(world.cluster.writes)
    world.cluster.say(job, event="progress", phase="training", step=41, steps=100, percent=41.1, loss=1.5)
    world.pass_time(31)
    world.reconcile()
    assert len(world.cluster.writes) == writes  # the percentage stands
    world.pass_time(300)
    world.cluster.say(job, event="progress", phase="training", step=41, steps=100, percent=41.2, loss=1.5)
    world.reconcile()
    assert world.status.progress.loss == 1.5

    result = {"stage": "tokenizer", "digest": "d" * 64, "bestValidationLoss": 0.5, "seconds": 90.0, "epochs": 3}
    world.cluster.say(job, event="result", stage="tokenizer", result=result)
    world.end()
    job = world.run()
    world.cluster.say(job, event="result", result=result | {"stage": "predictor", "digest": "e" * 64})
    world.end()
    status = world.status
    assert status.artifacts.tokenizer.digest == "d" * 64
    assert status.artifacts.predictor.digest == "e" * 64
    assert status.metrics["predictorBestValidationLoss"] == 0.5
    assert status.history[0].metrics["tokenizerSeconds"] == 90.0
    assert (status.progress.summary, status.progress.eta) == ("100%", None)


@pytest.mark.parametrize(
    ("seconds", "summary", "phase", "told"),
    [
        (29, "44%", Phase.TRAINING, False),
        (30, "44%", Phase.TRAINING, True),
        (299, "43%", Phase.TRAINING, False),
        (300, "43%", Phase.TRAINING, True),
        (1, "43%", Phase.RESTARTING, True),
    ],
)
def test_progress_alone_is_told_no_more_often_than_promised(
    seconds: int, summary: str, phase: Phase, told: bool
) -> None:
    def status(phase: Phase, summary: str, at: float) -> Status:
        return Status(phase=phase, progress=Progress(summary=summary, updated_at=at))

    assert worth_writing(status(Phase.TRAINING, "43%", 1000), status(phase, summary, 1000 + seconds), 30.0) is told


def test_a_failed_read_of_a_log_is_no_stall_and_a_silent_trainer_is() -> None:
    world = World()
    job = world.run()
    world.cluster.logs[f"{job}-0"] = None
    for _ in range(30):
        world.pass_time(31)
        world.reconcile()
    assert world.cluster.live() == [job]
    world.cluster.say(job, event="progress", phase="training", step=1, steps=9)
    for _ in range(30):
        world.pass_time(31)
        world.reconcile()
        if not world.cluster.pods(job) or world.cluster.pods(job)[0]["metadata"].get("deletionTimestamp"):
            break
    world.end(75)
    assert world.status.run.restarts.stalls == 1
    assert world.status.failure.reason == "ProgressDeadlineExceeded"


def test_a_trainer_that_never_says_a_word_is_stalled() -> None:
    world = World()
    world.run()
    world.pass_time(599)
    world.reconcile()
    assert world.condition("Ready") == ("True", "TrainingTokenizer")
    world.pass_time(2)
    world.reconcile()
    world.end(75)
    assert world.status.run.restarts.stalls == 1


@pytest.mark.parametrize("skew", [-86400, 86400])
def test_a_nodes_clock_does_not_decide_who_is_stalled(skew: float) -> None:
    world = World()
    job = world.run()
    for step in range(1, 30):
        world.pass_time(100)
        time = timestamp(world.cluster.now + skew)
        world.cluster.say(job, event="progress", phase="training", step=step, steps=99, time=time)
        world.reconcile()
    assert world.cluster.workloads()[0]["metadata"].get("deletionTimestamp") is None
    world.pass_time(601)
    world.reconcile()
    world.end(75)
    assert world.status.run.restarts.stalls == 1


def test_a_long_message_is_told_in_full_only_once() -> None:
    world = World()
    world.run()
    world.end(65, '{"kronos":1,"event":"error","message":"%s"}' % ("x" * 2000))
    said = {condition.type: condition.message for condition in world.status.conditions}
    assert said.pop("Ready") == "x" * 1024
    assert max(map(len, said.values())) == 256


ERROR = '{"kronos":1,"event":"error","exitCode":%d,"message":"bars.csv, row 7: no number"}\n'


@pytest.mark.parametrize(
    ("code", "ready", "reason"),
    [
        (65, "False", "DataInvalid"),
        (64, "False", "ConfigInvalid"),
        (70, "False", "TrainingDiverged"),
        (1, "True", "TrainerCrashed"),
        (74, "True", "StorageFailed"),
    ],
)
def test_the_cause_of_a_failure_is_told(code: int, ready: str, reason: str) -> None:
    world = World()
    world.run()
    world.end(code, ERROR % code)
    assert world.condition("Ready") == (ready, reason)
    assert world.status.failure.message.startswith("bars.csv, row 7")
    assert world.status.failure.log_tail.startswith('{"kronos"')
    assert (world.condition("Finished")[0] == "True") == (ready == "False")


def test_out_of_memory_and_disruptions_are_free_and_crashes_are_not() -> None:
    world = World()
    for code in (71, 75, 71, 75):
        world.run()
        world.end(code)
        world.pass_time(20)
    restarts = world.status.run.restarts
    assert (restarts.out_of_memory, restarts.disruptions, restarts.crashes) == (2, 2, 0)
    for crashes in (1, 2):
        world.run()
        world.end(1)
        assert world.status.run.restarts.crashes == crashes
        assert world.status.phase == "Restarting"
        assert world.cluster.live() == []
        world.pass_time(20)
    world.run()
    world.end(1)
    assert world.condition("Stalled") == ("True", "TrainerCrashed")


def test_a_pod_that_others_delete_is_noted_at_once_and_costs_nothing() -> None:
    world = World()
    job = world.run(pods=2)
    first, second = world.cluster.pods(job)
    world.cluster.delete_pod(first)
    world.reconcile()
    assert world.status.run.disrupted
    world.cluster.remove(POD, first["metadata"]["name"])
    world.cluster.end_pod(second, 1)
    world.cluster.finish(job, failed=True)
    world.restart()
    world.reconcile()
    assert world.status.run.restarts.disruptions == 1
    assert world.status.run.restarts.crashes == 0


@pytest.mark.parametrize("looks", [*itertools.product([False, True], repeat=3)])
def test_a_deleted_pod_counts_once_though_all_end_in_one_second(looks: tuple[bool, ...]) -> None:
    world = World(resources={"nodes": 2})
    job = world.run(pods=2)
    first, second = world.cluster.pods(job)
    world.cluster.delete_pod(first)
    world.reconcile()
    ends = [
        lambda: world.cluster.end_pod(second, 1),
        lambda: world.cluster.end_pod(first, 75),
        lambda: world.cluster.finish(job, failed=True),
    ]
    world.live_through(ends, looks)
    assert (world.status.run.restarts.crashes, world.status.run.restarts.disruptions) == (0, 1)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("looks", [*itertools.product([False, True], repeat=5)])
def test_an_eviction_by_a_queue_counts_once_whenever_it_is_looked_at(looks: tuple[bool, ...], fails: bool) -> None:
    world = World(resources={"nodes": 2})
    name = world.run(pods=2)
    job = world.cluster.objects["jobs", name]

    def is_suspended() -> None:
        job["spec"]["suspend"] = True
        for pod in world.cluster.pods(name):
            world.cluster.delete_pod(pod)

    def pods_end() -> None:
        for pod in world.cluster.pods(name):
            world.cluster.end_pod(pod, 75)

    def job_is_about_to_fail() -> None:
        if fails:
            message = "failed with exit code 75 matching FailJob rule at index 1"
            told = {"type": "FailureTarget", "status": "True", "reason": "PodFailurePolicy", "message": message}
            job["status"]["conditions"] = [told | {"lastTransitionTime": timestamp(world.cluster.now)}]

    def pods_are_gone() -> None:
        for pod in world.cluster.pods(name):
            world.cluster.remove(POD, pod["metadata"]["name"])

    def is_resumed() -> None:
        job["spec"]["suspend"] = False
        if fails:
            job["status"]["conditions"] += [job["status"]["conditions"][0] | {"type": "Failed"}]

    world.live_through([is_suspended, pods_end, pods_are_gone, job_is_about_to_fail, is_resumed], looks)
    world.pass_time(20)
    world.run(pods=2)
    seen = fails or looks[0] or looks[1]  # a gang that only lost its pods for a moment has left no trace
    assert world.status.run.restarts.disruptions == int(seen)
    assert world.status.run.restarts.crashes == 0
    assert world.status.phase == "Training"


def test_pods_that_go_because_another_crashed_are_no_disruption() -> None:
    world = World()
    job = world.run(pods=2)
    first, second = world.cluster.pods(job)
    world.pass_time(5)
    world.cluster.end_pod(first, 1)
    world.cluster.delete_pod(second)
    world.reconcile()
    world.pass_time(1)
    world.cluster.end_pod(second, 143)
    world.cluster.finish(job, failed=True)
    world.reconcile()
    assert (world.status.run.restarts.crashes, world.status.run.restarts.disruptions) == (1, 0)


def test_an_eviction_and_the_words_of_the_job_controller_count_when_pods_are_gone() -> None:
    world = World()
    job = world.run()
    world.cluster.pods(job)[0]["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    world.end(137)
    assert world.status.run.restarts.disruptions == 1
    world.pass_time(20)
    job = world.run()
    (pod,) = world.cluster.pods(job)
    world.cluster.remove(POD, pod["metadata"]["name"])
    told = "Container trainer for pod ns/x failed with exit code 65 matching FailJob rule at index 0"
    world.cluster.finish(job, failed=True, reason="PodFailurePolicy", message=told)
    world.reconcile()
    assert world.condition("Stalled") == ("True", "DataInvalid")


def test_a_job_that_somebody_deletes_is_a_disruption_and_its_name_does_not_come_again() -> None:
    world = World()
    for number in range(3):
        job = world.run()
        world.step()
        assert job.endswith(f"-{number}")
        asyncio.run(world.cluster.delete(JOB, "ns", job, propagation="Foreground"))
        world.reconcile()
        assert world.status.run.disrupted
        for pod in world.cluster.pods(job):
            world.cluster.end_pod(pod, 75)
        world.cluster.collect()
        world.reconcile()
        assert world.status.run.restarts.disruptions == number + 1
        assert world.status.run.restarts.last.reason == "WorkloadDeleted"
        world.pass_time(3600)


def test_what_only_looks_like_a_child_neither_stops_nor_blocks_a_run_and_is_mentioned_once() -> None:
    world = World()
    job = world.run()
    copied = copy.deepcopy(world.cluster.objects["jobs", job])
    copied["metadata"]["name"] = f"{job}-debug"
    world.cluster.put(JOB, copied)
    labels = copied["metadata"]["labels"]
    world.cluster.put(POD, {"metadata": {"name": "look", "labels": labels}, "status": {"phase": "Running"}})
    for _ in range(3):
        world.pass_time(31)
        world.reconcile()
    assert not any(body["metadata"].get("deletionTimestamp") for body in world.cluster.workloads())
    assert world.cluster.events.count(("Warning", "ForeignObject")) == 2
    world.cluster.end_pods(job, 1)
    world.reconcile()
    world.pass_time(20)
    world.reconcile()
    assert f"{job[:-1]}1" in world.cluster.live()
    world.cluster.change_spec(suspend=True)
    world.reconcile()
    assert not world.cluster.objects["jobs", f"{job}-debug"]["metadata"].get("deletionTimestamp")


def test_the_taint_that_drives_a_gang_away_is_named() -> None:
    world = World()
    job = world.run()
    world.step()
    taints = [
        {"key": "maintenance", "value": "disk", "effect": "NoExecute"},
        {"key": "gpu", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
    ]
    world.cluster.put(NODE, {"metadata": {"name": "gpu-7"}, "spec": {"taints": taints}})
    (pod,) = world.cluster.pods(job)
    pod["spec"] = {"nodeName": "gpu-7"}
    words = {"reason": "DeletionByTaintManager", "message": "Taint manager: deleting due to NoExecute taint"}
    pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"} | words]
    world.end(143)
    last = world.status.run.restarts.last
    assert (world.status.run.restarts.disruptions, last.reason) == (1, "DeletionByTaintManager")
    assert last.message == (
        f"{job}-0 on node gpu-7: Taint manager: deleting due to NoExecute taint; "
        "node gpu-7 is tainted maintenance=disk:NoExecute, node.kubernetes.io/unreachable:NoExecute"
    )


def test_a_node_that_is_not_ready_is_mentioned_while_its_pod_seems_to_run() -> None:
    world = World()
    job = world.run()
    (pod,) = world.cluster.pods(job)
    pod["spec"] = {"nodeName": "gpu-7"}
    pod["status"]["containerStatuses"][0]["ready"] = True
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    world.reconcile()
    (ready,) = [one for one in world.status.conditions if one.type == "Ready"]
    assert (ready.status, ready.reason) == ("True", "TrainingTokenizer")
    assert ready.message.endswith("not ready: node gpu-7")
    pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    world.reconcile()
    assert not any("gpu-7" in one.message for one in world.status.conditions)


def test_checkpoints_that_were_passed_over_as_damaged_stay_in_status() -> None:
    world = World()
    job = world.run()
    world.cluster.say(job, event="checkpointSkipped", step=40, directory="step-40", reason="weights: digest differs")
    world.step()
    assert world.status.skipped_checkpoints == ["step 40: weights: digest differs"]
    world.end(1)
    world.restart()
    world.pass_time(20)
    world.run()
    world.step()
    assert world.status.skipped_checkpoints == ["step 40: weights: digest differs"]


def test_what_trainers_noted_of_the_bars_stays_in_status_few_and_short() -> None:
    world = World()
    job = world.run()
    for index in range(20):
        world.cluster.say(job, event="note", message=f"note {index}: " + "some prices are 0, " * 50)
    world.step()
    assert [note[:8] for note in world.status.notes] == [f"note {index}: "[:8] for index in range(8)]
    assert {len(note) for note in world.status.notes} == {256}
    before = world.status.notes
    world.end(1)
    world.restart()
    world.pass_time(20)
    job = world.run()
    world.cluster.say(job, event="note", message="one more")
    world.step()
    assert world.status.notes == before


@pytest.mark.parametrize(
    ("image", "starts"),
    [("example.org/ml/kronos:1", True), ("example.org/trainer:0.9", True), ("evil.example.org/kronos:1", False)],
)
def test_a_run_goes_on_with_its_frozen_image_only_if_that_is_still_allowed(image: str, starts: bool) -> None:
    world = World(image="example.org/ml/kronos:1")
    world.run()
    (name,) = frozen_runs(world.cluster)
    kept = world.cluster.objects["configmaps", name]
    content = json.loads(kept["data"]["frozen.json"]) | {"image": image}
    kept["data"]["frozen.json"] = json.dumps(content)
    policy = Policy(allowed_image_prefixes=("example.org/ml",))
    world.settings = Settings(default_image="example.org/trainer:1", policy=policy)
    world.restart()
    world.end(1)
    world.pass_time(20)
    world.reconcile()
    assert bool(world.cluster.live()) is starts
    if not starts:
        assert world.condition("Stalled") == ("True", "PolicyDenied")


def test_who_waited_for_its_turn_does_not_start_because_the_operator_did() -> None:
    world = World(Settings(default_image="example.org/trainer:1", policy=Policy(max_running=1)))
    first = copy.deepcopy(world.cluster.model()) | {"kind": "KronosModel"}
    first["metadata"] |= {"name": "a"}
    world.cluster.put(KRONOSMODEL, first)
    world.reconciler.models.put(copy.deepcopy(world.cluster.model("a")))
    asyncio.run(world.reconciler.reconcile(Key("ns", "a")))
    world.reconcile()
    assert (world.status.phase, world.status.queue_position) == ("Queued", 1)
    assert world.condition("Ready") == ("True", "WaitingForTurn")

    world.restart()  # nothing is known of the other yet
    due = world.reconcile()
    assert (world.status.phase, world.status.queue_position) == ("Queued", 1)
    assert due is not None and 0 < due <= 20
    world.pass_time(20)
    world.reconcile()
    assert world.status.phase != "Queued"  # by now it would be


def test_a_lost_pod_is_given_up_a_minute_after_its_grace() -> None:
    world = World()
    job = world.run()
    world.cluster.delete_pod(world.cluster.pods(job)[0], grace=120)
    world.reconcile()
    world.pass_time(179)
    world.reconcile()
    assert world.cluster.live() == [job]
    assert "deletionTimestamp" not in world.cluster.workloads()[0]["metadata"]
    world.pass_time(2)
    world.reconcile()
    assert "deletionTimestamp" in world.cluster.workloads()[0]["metadata"]
    world.reconcile()
    world.pass_time(20)
    world.reconcile()
    assert world.status.run.attempt == 1
    assert len(world.cluster.workloads()) == 2
    assert world.status.run.restarts.disruptions == 1


def test_a_pytorchjob_whose_pod_was_deleted_is_started_anew() -> None:
    world = World(backend="PyTorchJob", resources={"nodes": 2})
    job = world.run(pods=2)
    assert world.cluster.names(PYTORCHJOB) == [job]
    first, second = world.cluster.pods(job)
    world.cluster.delete_pod(first)
    world.reconcile()
    assert world.status.run.disrupted
    assert "deletionTimestamp" in world.cluster.workloads()[0]["metadata"]
    for pod in (first, second):
        world.cluster.end_pod(pod, 75)
    world.cluster.collect()
    world.pass_time(20)
    world.reconcile()
    assert world.status.run.restarts.disruptions == 1
    assert world.job.endswith("-1")


def test_suspend_waits_for_the_pods_and_resume_counts_nothing() -> None:
    world = World()
    job = world.run()
    world.cluster.change_spec(suspend=True)
    world.reconcile()
    assert world.status.phase == "Suspending"
    world.cluster.end_pods(job, 75)
    world.reconcile()
    assert world.status.phase == "Suspended"
    assert world.cluster.workloads() == []
    world.cluster.change_spec(suspend=False)
    assert world.run().endswith("-1")
    assert not any(world.status.run.restarts.model_dump().values())


def test_retrain_and_cancel_are_each_answered_once() -> None:
    world = World()
    world.train()
    first = world.status.run.id
    world.cluster.annotate(RETRAIN_ANNOTATION, "monday")
    world.train()
    assert world.status.run.id != first
    assert world.status.tracking.last_trigger == "monday"
    assert world.reconcile() is not None  # its children expire some day
    assert world.cluster.live() == []

    world.cluster.annotate(RETRAIN_ANNOTATION, "tuesday")
    job = world.run()
    world.cluster.annotate(CANCEL_ANNOTATION, "now")
    world.reconcile()
    world.cluster.end_pods(job, 75)
    world.reconcile()
    assert world.condition("Finished") == ("True", "Cancelled")
    del world.cluster.model()["metadata"]["annotations"][CANCEL_ANNOTATION]
    world.cluster.annotate(RETRAIN_ANNOTATION, "wednesday")
    world.train()
    assert world.condition("Finished") == ("True", "Succeeded")
    assert [entry.outcome for entry in world.status.history] == ["Succeeded", "Cancelled", "Succeeded", "Succeeded"]


def test_a_cancel_answers_what_was_asked_for_before_it_and_not_what_comes_after() -> None:
    world = World(schedule={"cron": "0 6 * * *"})
    world.run()
    world.cluster.now = world.status.schedule.next_time + 60
    world.cluster.annotate(RETRAIN_ANNOTATION, timestamp(world.cluster.now))
    world.step()
    world.cluster.annotate(CANCEL_ANNOTATION, timestamp(world.cluster.now))
    world.reconcile()
    world.cluster.end_pods(world.job, 75)
    world.reconcile()
    assert world.condition("Finished") == ("True", "Cancelled")
    assert world.cluster.live() == []
    assert world.status.schedule.next_time > world.cluster.now
    del world.cluster.model()["metadata"]["annotations"][CANCEL_ANNOTATION]
    world.cluster.annotate("example.org/note", "tidied up")
    world.reconcile()
    assert world.cluster.live() == []

    world.pass_time(60)
    world.cluster.annotate(RETRAIN_ANNOTATION, timestamp(world.cluster.now))
    world.run()
    world.pass_time(60)
    world.cluster.annotate(CANCEL_ANNOTATION, timestamp(world.cluster.now))
    later = timestamp(world.cluster.now + 1)
    world.cluster.annotate(RETRAIN_ANNOTATION, later)  # seen together with the cancel request
    world.reconcile()
    world.cluster.end_pods(world.job, 75)
    world.reconcile()
    assert [entry.outcome for entry in world.status.history] == ["Cancelled", "Cancelled"]
    assert len(world.cluster.live()) == 1
    assert world.status.run.trigger == later


def test_the_words_of_an_earlier_retrain_request_retrain_again() -> None:
    world = World()
    runs = []
    for words in ("a", "b", "a"):
        world.cluster.annotate(RETRAIN_ANNOTATION, words)
        world.train()
        runs.append(world.status.artifacts.run)
    assert len(set(runs)) == 3


def test_a_tick_of_the_schedule_stops_no_run() -> None:
    world = World(schedule={"cron": "0 * * * *"}, updatePolicy="Cancel")
    job = world.run()
    for _ in range(3):
        world.pass_time(3600)
        world.step()
    assert world.cluster.live() == [job]
    world.cluster.annotate(RETRAIN_ANNOTATION, "now")
    world.reconcile()
    assert world.status.run.stop == "Superseded"


def test_a_run_that_can_never_start_gives_way_to_the_spec_that_mends_it() -> None:
    world = World(data={"source": {"claim": {"name": "brs"}}}, image="example.org/typo:1")
    world.reconcile()
    job = world.job
    world.cluster.make_pods(job)
    world.cluster.change_spec(data={"source": {"claim": {"name": "bars"}}}, image="example.org/right:1")
    world.reconcile()
    assert world.cluster.live() == []
    world.reconcile()
    assert world.job != job
    template = world.cluster.objects["jobs", world.job]["spec"]["template"]["spec"]
    assert template["containers"][0]["image"] == "example.org/right:1"
    world.train()
    assert world.condition("Finished") == ("True", "Succeeded")


def test_a_schedule_fires_once_however_often_the_operator_dies() -> None:
    world = World(schedule={"cron": "0 6 * * *"})
    world.train()
    assert world.status.schedule.last_time is None
    tick = world.status.schedule.next_time
    world.cluster.now = tick + 86400 * 3  # three ticks passed while nobody looked
    for _ in range(3):
        world.restart()
        world.reconcile()
    assert len(world.cluster.live()) == 1
    assert world.status.schedule.last_time == tick
    assert world.status.schedule.next_time > world.cluster.now
    world.train()
    world.restart()
    world.reconcile()
    assert len(world.status.history) == 2


def test_a_tick_that_is_due_waits_for_the_run_before_it() -> None:
    world = World(schedule={"cron": "*/5 * * * *"})
    job = world.run()
    for _ in range(3):
        world.pass_time(400)
        world.cluster.say(job, event="progress", phase="training", step=1, steps=9)
        assert (world.reconcile() or 0) > 1
    assert world.cluster.live() == [job]
    first = world.status.run.id
    world.end()
    world.run()
    world.end()
    assert world.status.run.id != first
    assert len(world.cluster.live()) == 1


def test_update_policies() -> None:
    world = World()
    job = world.run()
    world.step()
    world.cluster.change_spec(predictor={"epochs": 3})
    world.reconcile()
    assert world.cluster.live() == [job]  # Finish
    world.end()
    assert "-pred-" in world.run()
    old = world.status.run.id
    world.end()
    assert world.status.run.id != old
    assert "-pred-" in world.job  # the tokenizer is used again
    cancelled = world.run()
    world.cluster.change_spec(updatePolicy="Cancel", predictor={"epochs": 4})
    world.reconcile()
    world.cluster.end_pods(cancelled, 75)
    world.reconcile()
    assert world.job != cancelled
    world.cluster.change_spec(updatePolicy="Manual")
    world.run()
    world.end()
    world.cluster.change_spec(predictor={"epochs": 5})
    world.reconcile()
    assert world.cluster.live() == []
    assert world.condition("Ready") == ("True", "UpdateWaiting")


def test_a_running_training_keeps_the_spec_and_the_image_it_began_with() -> None:
    world = World()
    world.run()
    world.step()
    world.cluster.change_spec(training={"seed": 7})
    world.settings = Settings(default_image="example.org/trainer:2")
    world.restart()
    world.end(75)
    world.pass_time(60)
    world.reconcile()
    template = world.cluster.objects["jobs", world.job]["spec"]["template"]["spec"]
    assert template["containers"][0]["image"] == "example.org/trainer:1"
    assert '"seed": 100' in world.cluster.objects["configmaps", world.job]["data"]["run.json"]


def test_ended_children_go_after_their_time_and_the_last_failure_stays() -> None:
    world = World(childTTLSecondsAfterFinished=100, historyLimit=1)
    for _ in range(2):
        world.run()
        world.end(1)
        world.pass_time(30)
    world.reconcile()
    assert len([name for name in world.cluster.names(JOB) if name not in world.cluster.live()]) == 1
    world.train()
    due = world.reconcile()
    assert due == pytest.approx(100, abs=1)
    assert len(world.cluster.names(JOB)) == 2
    world.pass_time(101)
    world.reconcile()
    assert world.cluster.names(JOB) == world.cluster.names(SERVICE) == []
    assert world.cluster.names(CONFIGMAP) == frozen_runs(world.cluster)
    assert world.condition("Finished") == ("True", "Succeeded")
    world.restart()
    world.reconcile()
    assert world.cluster.live() == []
    assert len(world.status.history) == 1


def refused(world: World) -> str:
    world.reconcile()
    assert world.cluster.names(JOB) == world.cluster.names(CONFIGMAP) == []
    status, reason = world.condition("Stalled")
    assert status == "True"
    return reason


def test_what_must_not_run_here_is_refused_before_any_child_exists() -> None:
    local = World(data={"source": {"path": "bars"}})
    assert refused(local) == "LocalPathInCluster"
    assert "claim" in next(item.message for item in local.status.conditions if item.type == "Ready")
    policy = Policy(max_nodes=1)
    denied = World(Settings(default_image="i", policy=policy), resources={"nodes": 2})
    assert refused(denied) == "PolicyDenied"
    assert refused(World(Settings())) == "ImageMissing"
    assert refused(World(schedule={"cron": "0 6 * * *", "timeZone": "Mars/Olympus"})) == "SpecInvalid"
    denied.cluster.change_spec(resources={"nodes": 1})
    denied.run()
    assert denied.condition("Stalled")[0] == "False"


def test_a_finished_model_whose_new_spec_is_refused_is_not_finished() -> None:
    world = World(Settings(default_image="i", policy=Policy(max_nodes=1)))
    world.train()
    world.cluster.change_spec(resources={"nodes": 2})
    world.reconcile()
    assert world.condition("Finished") == ("False", "PolicyDenied")
    world.cluster.change_spec(resources={"nodes": 1})
    world.reconcile()
    assert world.condition("Finished") == ("True", "Succeeded")


def test_a_run_in_progress_is_not_touched_by_a_spec_that_is_refused() -> None:
    world = World()
    job = world.run()
    world.cluster.change_spec(data={"source": {"path": "bars"}})
    world.reconcile()
    assert world.cluster.live() == [job]
    assert world.condition("Stalled") == ("True", "LocalPathInCluster")


def test_a_child_that_the_server_will_never_accept_ends_the_run_and_a_new_spec_mends_it() -> None:
    world = World()
    world.cluster.reject["Job"] = Rejected("spec.template: Invalid value", status=422)
    world.reconcile()
    assert world.condition("Stalled") == ("True", "ChildRejected")
    assert world.status.failure.message == "spec.template: Invalid value"
    world.reconcile()
    world.cluster.reject.clear()
    world.cluster.change_spec(image="example.org/other:1")
    world.train()
    assert world.condition("Finished") == ("True", "Succeeded")


def test_a_quota_is_told_and_waited_for() -> None:
    world = World()
    world.cluster.reject["Job"] = Rejected("exceeded quota: gpus", status=403)
    with pytest.raises(Exception, match="exceeded quota"):
        world.reconcile()
    assert world.condition("Ready") == ("True", "QuotaExceeded")
    world.cluster.reject.clear()
    world.run()
    assert world.condition("Ready") == ("True", "TrainingTokenizer")


def test_another_owner_of_a_childs_name_is_waited_for() -> None:
    world = World()
    world.reconcile()
    job = world.cluster.objects["jobs", world.job]
    job["metadata"]["ownerReferences"] = [{"uid": "other", "controller": True}]
    with pytest.raises(ClusterError, match="not this model's: delete it"):
        world.reconcile()
    assert world.condition("Ready") == ("True", "NameTaken")
    world.cluster.remove(JOB, job["metadata"]["name"])
    world.reconcile()
    assert world.cluster.objects["jobs", world.job]["metadata"]["uid"] != job["metadata"]["uid"]


def test_a_run_that_cannot_be_frozen_is_told_and_waited_for() -> None:
    world = World()
    world.cluster.reject["ConfigMap"] = Rejected("exceeded quota: few-configmaps", status=403)
    with pytest.raises(ClusterError, match="exceeded quota"):
        world.reconcile()
    assert world.condition("Ready") == ("True", "QuotaExceeded")
    assert world.status.run is None
    world.cluster.reject.clear()
    world.train()
    assert world.condition("Finished") == ("True", "Succeeded")


def test_a_run_that_can_never_be_frozen_is_stalled() -> None:
    world = World()
    world.cluster.reject["ConfigMap"] = Rejected("data: Too long", status=422)
    world.reconcile()
    assert world.condition("Stalled") == ("True", "ChildRejected")
    assert world.reconcile() is None


def test_somebody_elses_config_map_is_left_alone() -> None:
    world = World()
    world.reconcile()
    (name,) = frozen_runs(world.cluster)
    world = World()
    other = {"metadata": {"name": name, "ownerReferences": [{"uid": "other", "controller": True}]}, "data": {}}
    world.cluster.put(CONFIGMAP, other)
    with pytest.raises(ClusterError, match=f"ConfigMap {name} is there and not this model's"):
        world.reconcile()
    assert world.condition("Ready") == ("True", "NameTaken")
    assert world.cluster.objects[CONFIGMAP.plural, name] is other


def test_what_a_refused_attempt_left_is_not_read_by_the_one_that_starts() -> None:
    world = World()
    world.cluster.reject["Job"] = Rejected("denied by a webhook", status=403)
    with pytest.raises(ClusterError):
        world.reconcile()
    world.cluster.reject.clear()
    world.cluster.change_spec(storage={"claim": {"name": "models", "path": "elsewhere"}})
    world.reconcile()
    config = json.loads(world.cluster.objects[CONFIGMAP.plural, world.job]["data"]["run.json"])
    assert config["output"].endswith("/elsewhere")


def test_what_waits_is_no_error_of_the_operator() -> None:
    world = World()
    world.cluster.reject["Job"] = Rejected("exceeded quota: few-jobs", status=403)
    with pytest.raises(ClusterError):
        world.reconcile()
    assert world.metrics.registry.get_sample_value("kronos_reconcile_errors_total") == 0


def test_a_model_that_goes_during_a_pass_leaves_no_metrics() -> None:
    world = running_world()
    asyncio.run(world.reconciler.reconcile(KEY))
    world.pass_time(31)  # its log is read again, and has nothing new

    async def delete() -> None:
        world.cluster.remove(KRONOSMODEL, "m")
        world.reconciler.models.remove(KEY)
        world.reconciler.forget(KEY)

    world.cluster.meanwhile[world.cluster.calls] = delete
    asyncio.run(world.reconciler.reconcile(KEY))
    assert world.metrics.phases() == {} and world.metrics.checkpoint_ages() == {}


def test_a_namesake_whose_predecessors_end_went_unseen_inherits_nothing() -> None:
    world = running_world()
    asyncio.run(world.reconciler.reconcile(KEY))
    assert world.status.progress.percent == 50.0
    for plural, name in list(world.cluster.objects):
        del world.cluster.objects[plural, name]
    world.cluster.logs.clear()
    world.cluster.put(KRONOSMODEL, make_model())
    world.run()
    assert world.status.progress is None


def waiting_pod(world: World, **status: Any) -> None:
    world.reconcile()
    world.cluster.make_pods(world.job)
    world.cluster.pods(world.job)[0]["status"] |= status
    world.pass_time(11)
    world.reconcile()


def unscheduled(message: str, reason: str = "Unschedulable") -> dict[str, Any]:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": reason, "message": message}]}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."), "Unschedulable"),
        (unscheduled("pod has unbound immediate PersistentVolumeClaims"), "VolumeNotBound"),
        (unscheduled("gated", "SchedulingGated"), "SchedulingGated"),
        (
            {"containerStatuses": [{"name": "trainer", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
            "ImageNotPulled",
        ),
    ],
)
def test_why_a_pod_does_not_run_is_told(status: dict[str, Any], reason: str) -> None:
    world = World()
    waiting_pod(world, **status)
    assert world.condition("Ready") == ("True", reason)
    assert world.cluster.events[-1] == ("Normal", reason)


@pytest.mark.parametrize(
    ("backend", "plural", "reason"), [("Job", "jobs", "FailedCreate"), ("PyTorchJob", "pytorchjobs", "FailedCreatePod")]
)
def test_why_a_workload_has_no_pods_is_told(backend: str, plural: str, reason: str) -> None:
    world = World(backend=backend)
    world.reconcile()
    uid = world.cluster.objects[plural, world.job]["metadata"]["uid"]
    event = {"metadata": {"name": "e"}, "reason": reason, "message": "forbidden: exceeded quota: gpus"}
    world.cluster.put(CORE_EVENT, event | {"involvedObject": {"uid": uid}})
    world.pass_time(11)
    world.reconcile()
    assert world.condition("Ready") == ("True", "QuotaExceeded")


def test_a_gang_that_is_not_whole_does_not_train_and_says_why() -> None:
    world = World(resources={"nodes": 4})
    world.reconcile()
    job = world.job
    world.cluster.make_pods(job, 2)
    world.cluster.run_pods(job)
    event = {"metadata": {"name": "e"}, "reason": "FailedCreate", "message": "forbidden: exceeded quota: gpus"}
    uid = world.cluster.objects["jobs", job]["metadata"]["uid"]
    world.cluster.put(CORE_EVENT, event | {"involvedObject": {"uid": uid}})
    world.pass_time(11)
    world.reconcile()
    assert world.status.phase == "Pending"
    assert world.condition("Ready") == ("True", "QuotaExceeded")


def test_a_mount_that_failed_is_told_while_it_is_tried() -> None:
    world = World()
    world.reconcile()
    world.cluster.make_pods(world.job)
    uid = world.cluster.pods(world.job)[0]["metadata"]["uid"]
    event = {"metadata": {"name": "e"}, "reason": "FailedMount", "message": "no such share"}
    seen = {"lastTimestamp": timestamp(world.cluster.now + 11), "involvedObject": {"uid": uid}}
    world.cluster.put(CORE_EVENT, event | seen)
    world.pass_time(60)
    world.reconcile()
    assert world.condition("Ready") == ("True", "VolumeNotMounted")
    world.pass_time(180)
    world.reconcile()
    assert world.condition("Ready") == ("True", "Pending")


@pytest.mark.parametrize("kind", [CORE_EVENT, PVC])
def test_what_cannot_be_asked_stops_nothing(kind: Kind) -> None:
    world = World(resources={"nodes": 2})
    world.cluster.unavailable = kind
    world.reconcile()
    world.cluster.make_pods(world.job)
    world.pass_time(11)
    world.cluster.change_spec(suspend=True)
    world.reconcile()
    world.reconcile()
    assert world.status.phase == "Suspended"


def test_a_queue_that_does_not_admit_is_told() -> None:
    world = World()
    world.reconcile()
    job = world.cluster.objects["jobs", world.job]
    job["spec"]["suspend"] = True
    condition = {"type": "QuotaReserved", "status": "False", "message": "insufficient quota for nvidia.com/gpu"}
    for name, uid in (("other", "other"), ("ours", job["metadata"]["uid"])):
        metadata = {"name": name, "labels": {"kueue.x-k8s.io/job-uid": uid}}
        status = {"conditions": [condition]}
        world.cluster.put(WORKLOAD, {"metadata": metadata, "spec": {"queueName": "gpus"}, "status": status})
    world.pass_time(11)
    world.reconcile()
    assert world.status.phase == "Queued"
    assert world.status.queue_position == 2
    ready = next(item for item in world.status.conditions if item.type == "Ready")
    assert ready.reason == "NotAdmitted"
    assert ready.message == "place 2 in queue gpus: insufficient quota for nvidia.com/gpu"

    world.cluster.remove(WORKLOAD, "other")
    world.pass_time(30)
    world.reconcile()
    assert world.status.queue_position == 1
    job["spec"]["suspend"] = False
    world.reconcile()
    assert world.status.queue_position is None
    assert world.condition("Ready") == ("True", "Pending")


def test_a_claim_that_nodes_cannot_share_is_warned_of() -> None:
    world = World(resources={"nodes": 2})
    world.cluster.put(PVC, {"metadata": {"name": "models"}, "spec": {"accessModes": ["ReadWriteOnce"]}})
    world.reconcile()
    assert world.condition("StorageShared") == ("False", "StorageNotShared")
    assert world.cluster.live() != []


def test_a_conflict_is_decided_anew() -> None:
    world = World()
    world.reconciler.models.put(copy.deepcopy(world.cluster.model()))
    world.cluster.change_spec(suspend=True)
    asyncio.run(world.reconciler.reconcile(KEY))
    assert world.status.phase == "Suspended"
    assert world.cluster.live() == []


def test_what_the_watch_has_not_seen_yet_is_not_made_twice() -> None:
    world = World()
    world.lister.freeze()
    world.reconcile()
    job = world.job
    world.cluster.make_pods(job)
    world.cluster.run_pods(job)
    for _ in range(3):
        world.restart()
        world.reconcile()
    assert [write for write in world.cluster.writes if write.startswith("create jobs")] == [f"create jobs {job}"]


def test_a_gang_that_the_watch_has_not_seen_is_not_forgotten_when_it_is_cancelled() -> None:
    world = World()
    world.lister.freeze()
    world.reconcile()
    job = world.job
    world.cluster.make_pods(job)
    world.cluster.run_pods(job)
    world.cluster.annotate(CANCEL_ANNOTATION, "now")
    world.cluster.annotate(RETRAIN_ANNOTATION, "now")
    world.reconcile()
    assert world.cluster.live() == [job]
    assert "deletionTimestamp" in world.cluster.workloads()[0]["metadata"]


def running_world() -> World:
    """A gang that trains, with news in its log."""
    world = World()
    job = world.run()
    world.cluster.say(job, event="progress", phase="training", step=5, steps=10, percent=50.0)
    world.pass_time(31)
    world.reconciler.models.put(copy.deepcopy(world.cluster.model()))
    return world


def calls_of_a_pass(make: Callable[[], World]) -> int:
    world = make()
    before = world.cluster.calls
    world.reconciler.models.put(copy.deepcopy(world.cluster.model()))
    asyncio.run(world.reconciler.reconcile(KEY))
    return world.cluster.calls - before


@pytest.mark.parametrize("make", [World, running_world])
def test_a_change_that_comes_at_any_moment_of_a_pass_is_acted_on(make: Callable[[], World]) -> None:
    total = calls_of_a_pass(make)
    assert total >= 2
    for moment in range(total):
        world = make()

        async def suspend(world: World = world) -> None:
            world.cluster.change_spec(suspend=True)
            world.reconciler.models.put(copy.deepcopy(world.cluster.model()))

        world.cluster.meanwhile[world.cluster.calls + moment] = suspend
        world.reconciler.models.put(copy.deepcopy(world.cluster.model()))
        for _ in range(4):  # of which nobody tells the operator anything more
            asyncio.run(world.reconciler.reconcile(KEY))
        started = [body for body in world.cluster.workloads() if "deletionTimestamp" not in body["metadata"]]
        assert started == [], f"before answer {moment}"


@pytest.mark.parametrize("make", [World, running_world])
def test_an_operator_that_is_overtaken_leaves_the_others_gang_alone_and_ends_its_own(make: Callable[[], World]) -> None:
    total = calls_of_a_pass(make)
    for moment in range(total):
        world = make()
        slow = world.reconciler
        world.restart()
        quick = world.reconciler

        async def overtake(world: World = world, slow: Reconciler = slow, quick: Reconciler = quick) -> None:
            """The other operator sees two attempts crash and starts the next, which the slow one is told of."""
            for _ in range(3):
                for _ in range(3):
                    world.pass_time(60)
                    quick.models.put(copy.deepcopy(world.cluster.model()))
                    await quick.reconcile(KEY)
                    for job in world.cluster.live():
                        world.cluster.make_pods(job)
                        world.cluster.run_pods(job)
                if world.status.run.attempt < 2:
                    world.cluster.end_pods(world.job, 1)
            slow.models.put(copy.deepcopy(world.cluster.model()))

        world.cluster.meanwhile[world.cluster.calls + moment] = overtake
        slow.models.put(copy.deepcopy(world.cluster.model()))
        for _ in range(4):
            asyncio.run(slow.reconcile(KEY))
        (live,) = world.cluster.live()
        assert live.endswith("-2") and world.status.run.attempt == 2, f"before answer {moment}"


def test_a_changed_backend_starts_no_second_gang_beside_one_that_the_watch_has_not_seen() -> None:
    world = World()
    world.lister.freeze()
    world.reconcile()
    job = world.job
    world.cluster.make_pods(job)
    world.cluster.run_pods(job)
    world.cluster.change_spec(backend="PyTorchJob")
    for _ in range(3):
        world.reconcile()
    assert [body["kind"] for body in world.cluster.workloads()] == ["Job"]


def test_a_run_trains_what_it_was_begun_with_though_the_operator_died_before_its_first_child() -> None:
    world = World(updatePolicy="Manual")  # else a run that has trained nothing gives way
    world.cluster.crash_in = 1  # the record is written
    with pytest.raises(Crash):
        world.reconcile()
    assert world.cluster.names(JOB) == []
    first = world.status.run.id
    world.cluster.change_spec(training={"seed": 7})
    world.restart()
    world.train()
    assert world.status.history[0].run == first
    assert '"seed": 100' in world.cluster.objects["configmaps", world.cluster.names(JOB)[0]]["data"]["run.json"]
    world.cluster.change_spec(updatePolicy="Finish")
    world.reconcile()
    assert world.status.run.id != first


def test_an_operator_that_was_left_behind_starts_and_stops_nothing() -> None:
    world = World()
    world.reconcile()
    job = world.job
    behind = world.reconciler
    world.restart()
    world.run()
    world.end(1)
    world.cluster.remove(JOB, job)
    world.pass_time(60)
    world.run()
    asyncio.run(behind.reconcile(KEY))
    assert world.cluster.writes.count(f"create jobs {job}") == 1
    assert world.job != job
    assert not any(body["metadata"].get("deletionTimestamp") for body in world.cluster.workloads())


def scenario(world: World) -> None:
    """A crash, an eviction, a suspension, both stages, and the end of the children: everything has its turn."""
    steps: list[tuple[int, bool]] = [(1, False), (75, False), (75, True), (0, False), (0, False)]
    for code, suspend in steps:
        surviving(world)
        job = world.job
        world.cluster.make_pods(job)
        world.cluster.run_pods(job)
        surviving(world)
        if suspend:
            world.cluster.change_spec(suspend=True)
            surviving(world)
        world.pass_time(1)
        world.cluster.end_pods(job, code)
        surviving(world)
        if suspend:
            world.cluster.change_spec(suspend=False)
        world.pass_time(60)
    world.pass_time(86400)
    surviving(world)
    surviving(world)


def surviving(world: World) -> None:
    """Reconciles, as a new process after each crash."""
    for _ in range(10):
        try:
            world.reconcile()
        except Crash:
            world.restart()
        else:
            return
    raise AssertionError("no pass came to its end")


def outcome(world: World) -> dict[str, Any]:
    kept = sorted(name for plural, name in world.cluster.objects if plural != "kronosmodels")
    return {"status": world.cluster.model()["status"], "objects": kept}


def test_a_process_killed_between_any_two_effects_changes_nothing() -> None:
    whole = World()
    scenario(whole)
    assert whole.condition("Finished") == ("True", "Succeeded")
    total = len(whole.cluster.writes)
    assert total > 20
    made = [write for write in whole.cluster.writes if write.startswith("create jobs")]
    for at in range(total):
        world = World()
        world.cluster.crash_in = at
        scenario(world)
        assert outcome(world) == outcome(whole), f"killed after write {at}: {whole.cluster.writes[at]}"
        assert [write for write in world.cluster.writes if write.startswith("create jobs")] == made


def test_a_model_that_is_deleted_is_forgotten() -> None:
    world = World()
    world.run()
    world.cluster.model()["metadata"]["deletionTimestamp"] = timestamp(world.cluster.now)
    world.cluster.touch(world.cluster.model())
    writes = list(world.cluster.writes)
    assert world.reconcile() is None
    assert world.cluster.writes == writes
    world.cluster.remove(KRONOSMODEL, "m")
    world.reconciler.models.remove(KEY)
    world.reconciler.forget(KEY)
    assert world.reconcile() is None
    assert world.metrics.phases() == {}


@pytest.mark.parametrize(("backend", "kinds"), [("Job", (CONFIGMAP, SERVICE)), ("PyTorchJob", (CONFIGMAP,))])
@pytest.mark.parametrize("runs", [False, True], ids=["waits", "runs"])
def test_what_a_gang_needs_to_start_is_made_again_when_somebody_deletes_it(
    backend: str, kinds: tuple[Kind, ...], runs: bool
) -> None:
    world = World(backend=backend, resources={"nodes": 2})
    world.reconcile()
    job = world.job
    world.cluster.make_pods(job, 2)
    for pod in world.cluster.pods(job):
        pod["spec"] = {"nodeName": "n"}
    if runs:
        world.cluster.run_pods(job)
    before = {kind: copy.deepcopy(world.cluster.objects[kind.plural, job]) for kind in kinds}
    for kind in kinds:
        world.cluster.remove(kind, job)
    world.reconcile()
    assert job not in world.cluster.names(CONFIGMAP)  # what takes a moment is given that
    world.pass_time(31)
    world.reconcile()
    for kind in kinds:
        restored = world.cluster.objects[kind.plural, job]
        for part in ("data", "spec"):
            assert restored.get(part) == before[kind].get(part)
        assert restored["metadata"]["ownerReferences"] == before[kind]["metadata"]["ownerReferences"]
    assert world.cluster.names(SERVICE) == ([job] if SERVICE in kinds else [])
    assert world.cluster.events.count(("Warning", "ChildRestored")) == len(kinds)
    assert world.status.run.attempt == 0


def test_children_are_looked_for_only_while_a_placed_gang_has_not_trained() -> None:
    world = World(resources={"nodes": 2})
    world.reconcile()
    job = world.job
    world.cluster.make_pods(job, 2)
    world.reconcile()

    def reads() -> list[str]:
        world.cluster.reads.clear()
        world.pass_time(31)
        world.reconcile()
        return [read for read in world.cluster.reads if read.endswith(job) and read.startswith("get")]

    assert reads() == []  # it waits for a node
    world.cluster.run_pods(job)
    assert reads() == [f"get configmaps {job}", f"get services {job}"]
    world.step()
    assert reads() == []


def test_a_gang_that_lacks_what_cannot_be_made_again_fails_with_the_cause() -> None:
    world = World()
    job = world.run()
    for name in world.cluster.names(CONFIGMAP):
        world.cluster.remove(CONFIGMAP, name)
    world.cluster.change_spec(predictor={"learningRate": 0.5}, updatePolicy="Manual")
    world.pass_time(31)
    world.reconcile()
    assert world.status.phase == "Failed"
    assert world.status.failure.reason == "RunConfigLost"
    assert "deletionTimestamp" in world.cluster._workload(job)["metadata"]
