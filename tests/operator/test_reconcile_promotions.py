"""Promotions and rollbacks in a cluster: a pod for each request, its answer in status, and what waits for what."""

from __future__ import annotations

import json

import pytest
from fake_cluster import JOB, Crash
from world import World

from kronos_operator import names
from kronos_operator.api import Phase
from kronos_operator.kube import Rejected
from kronos_operator.kube.kinds import EVENT, POD
from kronos_operator.plan.pointing import START_SECONDS
from kronos_operator.policy import Policy
from kronos_operator.settings import Settings

PROMOTE, ROLLBACK = names.PROMOTE_ANNOTATION, names.ROLLBACK_ANNOTATION
OLD = "0ddba115"
HASHES = {"tokenizer": "1" * 16, "predictor": "2" * 16}
DIGESTS = {"tokenizer": "a" * 64, "predictor": "b" * 64}


def report(run: str = OLD, previous: str = "", **fields: object) -> str:
    line = {"kronos": 1, "event": "pointer", "run": run, "previous": previous, "digests": DIGESTS, "hashes": HASHES}
    return json.dumps(line | {"message": f"run {run} is published"} | fields)


def trained(settings: Settings | None = None, **spec: object) -> World:
    """A model whose run is published."""
    world = World(settings, **spec)
    world.train()
    assert world.status.phase is Phase.SUCCEEDED
    world.cluster.events.clear()
    return world


def ask(world: World, annotation: str, text: str) -> str:
    """Asks, and returns the name of the Job that is made."""
    world.cluster.annotate(annotation, text)
    world.reconcile()
    return pointer(world)


def pointers(world: World) -> list[str]:
    return [name for name in world.cluster.names(JOB) if "-promote-" in name or "-rollback-" in name]


def pointer(world: World) -> str:
    (name,) = pointers(world)
    return name


def run_pod(world: World, job: str) -> None:
    world.cluster.make_pods(job)
    world.cluster.run_pods(job)
    world.reconcile()


def finish(world: World, job: str, message: str = "", code: int = 0) -> None:
    """Its pod runs and ends."""
    run_pod(world, job)
    world.cluster.end_pods(job, code, message or report())
    world.reconcile()


def command(world: World, job: str) -> list[str]:
    (container,) = world.cluster.objects[JOB.plural, job]["spec"]["template"]["spec"]["containers"]
    return list(container["command"])


def test_a_promotion_is_carried_out_by_a_pod_and_shown_in_status() -> None:
    world = trained()
    before = world.status
    job = ask(world, PROMOTE, f"{OLD} 2026-11-28T12:00:00Z")
    assert command(world, job)[2:] == [
        "kronos_trainer.promotion",
        "promote",
        "--root=/mnt/storage",
        "--namespace=ns",
        "--model=m",
        f"--run={OLD}",
    ]
    assert world.status.artifacts == before.artifacts
    finish(world, job, report(previous=before.published_run))
    status = world.status
    assert status.published_run == OLD and world.condition("Available") == ("True", "Published")
    assert status.artifacts is not None and status.artifacts.predictor is not None
    artifact = status.artifacts.predictor
    assert artifact.path == f"models/ns/m/runs/{OLD}/predictor/best"
    assert (artifact.digest, artifact.hash) == (DIGESTS["predictor"], HASHES["predictor"])
    assert (artifact.bytes, artifact.data_through) == (None, None)  # a trainer that does not say
    assert status.promotion is not None
    assert (status.promotion.action, status.promotion.outcome, status.promotion.reason) == (
        "promote",
        "Succeeded",
        "Promoted",
    )
    assert (status.promotion.run, status.promotion.previous) == (OLD, before.published_run)
    assert status.phase is before.phase and world.condition("Ready") == ("True", "Promoted")
    assert world.cluster.events == [("Normal", "Promoted")]
    assert pointers(world) == [], "it is deleted once it has been read"
    assert not any(reason == "ForeignObject" for _, reason in world.cluster.events)

    # Answered once: neither a look nor a restart of the operator asks again.
    world.restart()
    world.reconcile()
    assert pointers(world) == []
    assert world.status.published_run == OLD, "the finished run does not take the pointer back"
    available = world.status.condition("Available")
    assert available is not None and available.message == f"run {OLD} is published"


def test_a_rollback_names_what_it_goes_back_from_and_brings_the_metrics_of_the_run_back() -> None:
    world = World()
    published = []
    for loss in (0.5, 0.25):
        world.cluster.annotate(names.RETRAIN_ANNOTATION, f"{loss}")
        for stage in ("tokenizer", "predictor"):
            result = {"stage": stage, "bestValidationLoss": loss}
            world.run()
            world.end(message=json.dumps({"kronos": 1, "event": "result", "stage": stage, "result": result}))
        published.append((world.status.published_run, world.status.metrics))
    (first, metrics), (second, others) = published
    assert second != first and metrics != others
    world.cluster.events.clear()
    job = ask(world, ROLLBACK, "2026-11-28T13:00:00Z")
    assert command(world, job)[3] == "rollback" and command(world, job)[-1] == f"--published={second}"
    finish(world, job, report(first, second))
    assert world.status.published_run == first
    assert ("Normal", "RolledBack") in world.cluster.events
    world.restart()
    world.reconcile()
    assert world.status.metrics == metrics


def test_what_is_known_of_weights_stays_as_long_as_they_are_the_same() -> None:
    world = trained()
    told = {"bytes": {"tokenizer": 7, "predictor": 512}, "dataThrough": {"predictor": "2024-03-01 and more"}}
    for text, said, known in (
        ("told", report(**told), (512, "2024-03-01")),
        ("again, by an older trainer", report(), (512, "2024-03-01")),
        ("nonsense", report(bytes={"predictor": -1}, dataThrough="soon", digests={}), (512, "2024-03-01")),
        ("trained again", report(digests={"predictor": "c" * 64}), (None, None)),
        ("told again", report(**told), (512, "2024-03-01")),
        ("others", report(hashes={"predictor": "3" * 16}), (None, None)),
    ):
        finish(world, ask(world, PROMOTE, f"{OLD} {text}"), said)
        assert world.status.artifacts is not None
        artifact = world.status.artifacts.predictor
        assert artifact is not None and (artifact.bytes, artifact.data_through) == known, text


def test_it_waits_for_the_attempt_and_the_next_attempt_waits_for_it() -> None:
    world = World()
    world.run()
    world.cluster.annotate(PROMOTE, "candidate 1")
    world.step()
    assert pointers(world) == [], "the model's directory is locked"
    world.end()  # the tokenizer; the predictor would be next
    job = pointer(world)
    assert "--run=" not in str(command(world, job))
    assert world.cluster.live() == [job]
    assert world.condition("Ready") == ("True", "Promoting")
    finish(world, job)
    (attempt,) = world.cluster.live()
    assert "-pred-" in attempt


def held() -> World:
    """A model of which one run is published, and a later one is held by the gate."""
    world = World(evaluation={"enabled": True})
    for again in (False, True):
        if again:
            world.cluster.annotate(names.RETRAIN_ANNOTATION, "2026-11-28T12:00:00Z")
        for _ in range(2):
            world.run()
            world.end()
        world.run()
        world.end(message=judged("Held" if again else "Published"))
    world.cluster.events.clear()
    return world


def judged(decision: str) -> str:
    promotion = {"decision": decision, "message": "not better than the published run"}
    summary = {"verdict": "Undecided", "metric": "crps", "dates": 21, "comparisons": []}
    result = {"version": 1, "stage": "evaluation", "evaluation": summary, "promotion": promotion}
    return json.dumps({"kronos": 1, "event": "result", "stage": "evaluation", "result": result})


def test_a_held_run_is_promoted_and_rolled_back() -> None:
    world = held()
    status = world.status
    assert status.run is not None and status.published_run != status.run.id
    first, second = status.published_run, status.run.id
    assert world.condition("Finished") == ("True", "PromotionHeld")
    finish(world, ask(world, PROMOTE, "candidate 1"), report(second, first))
    assert world.status.published_run == second
    assert world.condition("Finished") == ("True", "Succeeded"), "nobody has to decide any more"
    finish(world, ask(world, ROLLBACK, "2"), report(first, second))
    assert world.status.published_run == first
    assert (world.condition("Ready"), world.condition("Available")) == (("True", "RolledBack"), ("True", "Published"))
    for _ in range(2):
        world.restart()
        world.reconcile()
    assert world.status.published_run == first and world.cluster.live() == []


def test_a_suspended_model_is_promoted_too() -> None:
    world = World(suspend=True)
    world.reconcile()
    finish(world, ask(world, PROMOTE, OLD))
    assert world.status.published_run == OLD and world.status.phase is Phase.SUSPENDED


def test_a_failure_is_told_once_with_its_reason_and_asked_again_by_another_text() -> None:
    world = trained()
    before = world.status.artifacts
    error = {"kronos": 1, "event": "error", "exitCode": 66, "message": "no run nope of m (found: 3c0ffee3)"}
    finish(world, ask(world, PROMOTE, "nope 1"), json.dumps(error), code=66)
    promotion = world.status.promotion
    assert promotion is not None
    assert (promotion.outcome, promotion.reason, promotion.message) == ("Failed", "PodFailed", error["message"])
    assert world.status.artifacts == before and world.status.phase is Phase.SUCCEEDED
    world.restart()
    world.reconcile()
    assert world.cluster.events.count(("Warning", "PromotionFailed")) == 1 and pointers(world) == []
    finish(world, ask(world, PROMOTE, f"{OLD} 2"))
    assert world.status.published_run == OLD


@pytest.mark.parametrize("quota", [False, True])
def test_a_pod_that_does_not_start_is_given_up_with_its_reason(quota: bool) -> None:
    world = trained()
    job = ask(world, PROMOTE, OLD)
    if quota:
        event = {
            "metadata": {"name": "e"},
            "involvedObject": {"uid": world.cluster.objects[JOB.plural, job]["metadata"]["uid"]},
            "reason": "FailedCreate",
            "message": "pods is forbidden: exceeded quota: small",
        }
        world.cluster.put(EVENT, event)
    else:
        world.cluster.make_pods(job)
        (pod,) = world.cluster.pods(job)
        waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
        pod["status"]["containerStatuses"] = [{"name": "trainer", "state": {"waiting": waiting}}]
    world.pass_time(START_SECONDS - 1)
    assert world.reconcile() == 1
    assert world.status.promotion is None
    world.pass_time(1)
    world.reconcile()
    assert world.status.promotion is not None
    assert world.status.promotion.reason == ("QuotaExceeded" if quota else "ImageNotPulled")
    assert ("exceeded quota" if quota else "no such image") in world.status.promotion.message
    assert pointers(world) == []


def test_a_pod_that_is_refused_is_the_answer_at_once_and_training_goes_on() -> None:
    world = World()
    world.reconcile()
    (attempt,) = world.cluster.live()
    world.run()
    world.cluster.annotate(PROMOTE, OLD)
    world.cluster.reject = {"Job": Rejected("exceeded quota: count/jobs.batch", status=403)}
    world.cluster.end_pods(attempt, 0)
    with pytest.raises(Exception, match="exceeded quota"):
        world.reconcile()  # of the predictor's Job, after the promotion was answered
    assert world.status.promotion is not None and world.status.promotion.reason == "QuotaExceeded"
    world.cluster.reject = {}
    world.reconcile()
    assert "-pred-" in world.job and pointers(world) == []


def test_the_administrators_policy_applies_to_it() -> None:
    settings = Settings(default_image="example.org/trainer:1", policy=Policy(allowed_claims=("bars", "models")))
    world = trained(settings)
    world.cluster.change_spec(storage={"claim": {"name": "payroll"}}, updatePolicy="Manual")
    world.cluster.annotate(PROMOTE, OLD)
    world.reconcile()
    assert pointers(world) == [] and world.status.promotion is not None
    assert world.status.promotion.reason == "PolicyDenied" and "payroll" in world.status.promotion.message


@pytest.mark.parametrize("text", ["../other", "-x", "Candidate", "a" * 64])
def test_what_is_no_run_starts_no_pod(text: str) -> None:
    world = trained()
    world.cluster.annotate(PROMOTE, text)
    world.reconcile()
    assert pointers(world) == [] and world.status.promotion is not None
    assert world.status.promotion.reason == "InvalidRequest"


def test_a_request_that_is_changed_while_its_pod_runs_is_answered_first() -> None:
    world = trained()
    first = ask(world, PROMOTE, "candidate")
    run_pod(world, first)
    world.cluster.annotate(PROMOTE, f"{OLD} again")
    world.reconcile()
    assert pointers(world) == [first]
    finish(world, first, report("11111111"))
    assert world.status.promotion is not None and world.status.promotion.request == "candidate"
    assert world.status.published_run == "11111111"
    second = pointer(world)
    assert second != first
    finish(world, second)
    assert world.status.published_run == OLD


def test_two_requests_are_answered_in_the_order_of_their_times() -> None:
    world = trained()
    world.cluster.annotate(ROLLBACK, "2026-11-28T12:00:00Z")
    world.cluster.annotate(PROMOTE, "candidate 2026-11-28T13:00:00Z")
    world.reconcile()
    assert "-rollback-" in pointer(world)
    finish(world, pointer(world))
    assert "-promote-" in pointer(world)
    finish(world, pointer(world))
    assert [reason for _, reason in world.cluster.events] == ["RolledBack", "Promoted"]


def go_on(world: World, job: str) -> None:
    """The cluster's next step with a Job."""
    phases = [pod["status"]["phase"] for pod in world.cluster.pods(job)]
    if not phases:
        world.cluster.make_pods(job)
    elif phases == ["Pending"]:
        world.cluster.run_pods(job)
    elif phases == ["Running"]:
        world.cluster.end_pods(job, 0, report())


@pytest.mark.parametrize("writes", range(6))
def test_an_operator_that_is_cut_off_after_any_write_comes_to_the_same(writes: int) -> None:
    world = trained()
    world.cluster.annotate(PROMOTE, OLD)
    world.cluster.crash_in = writes
    crashed = 0
    for _ in range(8):
        try:
            world.reconcile()
        except Crash:
            crashed += 1
            world.restart()
            continue
        for job in pointers(world):
            go_on(world, job)
    world.cluster.crash_in = None
    world.reconcile()
    assert world.status.published_run == OLD and pointers(world) == []
    assert world.status.promotion is not None and world.status.promotion.outcome == "Succeeded"
    assert crashed == (writes < 4), "its status, its Job, its answer, its deletion"


def test_a_lost_report_is_told_and_not_taken_for_success() -> None:
    world = trained()
    before = world.status.artifacts
    job = ask(world, PROMOTE, OLD)
    run_pod(world, job)
    world.cluster.end_pods(job, 0)
    world.cluster.remove(POD, f"{job}-0")
    assert world.reconcile() == 60, "it may not be listed yet"
    world.pass_time(60)
    world.reconcile()
    assert world.status.promotion is not None and world.status.promotion.reason == "ReportLost"
    assert world.status.artifacts == before


def test_a_pod_whose_job_somebody_has_just_deleted_is_no_stranger_and_it_starts_again() -> None:
    world = trained()
    job = ask(world, PROMOTE, OLD)
    run_pod(world, job)
    world.cluster.remove(JOB, job)
    world.reconcile()
    assert pointers(world) == [job] and world.cluster.events == []
    world.cluster.remove(POD, f"{job}-0")
    finish(world, job)
    assert world.status.published_run == OLD


def test_copies_of_it_are_foreign_and_left_alone() -> None:
    world = trained()
    job = ask(world, PROMOTE, OLD)
    copy = json.loads(json.dumps(world.cluster.objects[JOB.plural, job]))
    copy["metadata"]["name"] = "m-promote-debug"
    world.cluster.put(JOB, copy)
    finish(world, job)
    assert world.cluster.names(JOB).count("m-promote-debug") == 1
    assert ("Warning", "ForeignObject") in world.cluster.events
