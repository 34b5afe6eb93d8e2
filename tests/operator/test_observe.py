"""From objects to attempts, causes and words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fake_cluster import timestamp

from kronos_operator.api import Failure, RunStage
from kronos_operator.plan import AttemptState
from kronos_operator.reconcile.causes import cause_of, log_tail, overran
from kronos_operator.reconcile.gangs import ObservedGang, attempt_of, cannot_go_on, gangs_of
from kronos_operator.reconcile.reports import Report, progress_of, read_report, result_of
from kronos_trainer.config import StageName

NOW = 1_800_000_000.0
JOB = "m-tok-0123abcd-3"
MODEL = "model"  # its uid
LABELS = {"kronos.io/model": "m", "kronos.io/run": "r", "kronos.io/stage": "tokenizer", "kronos.io/attempt": "3"}


def workload(kind: str = "Job", **changes: Any) -> dict[str, Any]:
    owner = {"uid": "model", "controller": True}
    metadata = {"name": JOB, "namespace": "ns", "uid": "job", "labels": LABELS, "ownerReferences": [owner]}
    metadata |= {"creationTimestamp": timestamp(NOW)}
    return {"kind": kind, "metadata": metadata, "spec": {}, "status": {}} | changes


def pod(
    index: int = 0, phase: str = "Running", code: int | None = None, owner: str = "job", **meta: Any
) -> dict[str, Any]:
    state: dict[str, Any] = {"running": {"startedAt": timestamp(NOW + index)}}
    if code is not None:
        phase = "Failed" if code else "Succeeded"
        state = {"terminated": {"exitCode": code, "finishedAt": timestamp(NOW + 10 + index)}}
    labels = LABELS | {"batch.kubernetes.io/job-completion-index": str(index)}
    owners = [{"uid": owner, "kind": "Job", "name": JOB, "controller": True}]
    metadata = {"name": f"j-{index}", "uid": f"pod-{index}", "labels": labels, "ownerReferences": owners} | meta
    containers = [] if phase == "Pending" else [{"name": "trainer", "state": state}]
    return {"metadata": metadata, "status": {"phase": phase, "containerStatuses": containers}}


def said(kind: str, reason: str = "", message: str = "") -> dict[str, Any]:
    told = {"type": kind, "status": "True", "reason": reason, "message": message}
    return {"conditions": [told | {"lastTransitionTime": timestamp(NOW + 20)}]}


def gang(body: dict[str, Any] | None = None, *pods: dict[str, Any]) -> ObservedGang:
    return ObservedGang(run="r", stage=StageName.TOKENIZER, attempt=3, workload=body, pods=pods)


DELETED = {"deletionTimestamp": timestamp(NOW + 120), "deletionGracePeriodSeconds": 120}

STATES: dict[str, tuple[ObservedGang, AttemptState]] = {
    "no pods yet": (gang(workload()), AttemptState.WAITING),
    "a pod waits": (gang(workload(), pod(), pod(1, "Pending")), AttemptState.WAITING),
    "all run": (gang(workload(), pod(), pod(1)), AttemptState.RUNNING),
    "one has ended": (gang(workload(), pod(), pod(1, code=0)), AttemptState.RUNNING),
    "not admitted": (gang(workload(spec={"suspend": True})), AttemptState.QUEUED),
    "not admitted, PyTorchJob": (
        gang(workload("PyTorchJob", spec={"runPolicy": {"suspend": True}})),
        AttemptState.QUEUED,
    ),
    "put back into its queue": (gang(workload(spec={"suspend": True}), pod()), AttemptState.STOPPING),
    "about to fail": (gang(workload(status=said("FailureTarget")), pod()), AttemptState.STOPPING),
    "about to succeed": (gang(workload(status=said("SuccessCriteriaMet")), pod()), AttemptState.STOPPING),
    "done": (gang(workload(status=said("Complete")), pod(code=0)), AttemptState.SUCCEEDED),
    "failed": (gang(workload(status=said("Failed")), pod(code=1)), AttemptState.FAILED),
    "PyTorchJob done": (gang(workload("PyTorchJob", status=said("Succeeded")), pod(code=0)), AttemptState.SUCCEEDED),
    "failed, but a pod still runs": (
        gang(workload("PyTorchJob", status=said("Failed")), pod(code=1), pod(1)),
        AttemptState.STOPPING,
    ),
    "only pods are left": (gang(None, pod()), AttemptState.STOPPING),
}


@pytest.mark.parametrize("name", STATES)
def test_where_a_gang_is(name: str) -> None:
    seen, expected = STATES[name]
    attempt = attempt_of(seen, None, NOW)
    assert attempt.state is expected
    assert attempt.succeeding is (name in ("about to succeed", "done", "PyTorchJob done"))


def test_a_gang_has_started_when_its_last_pod_has() -> None:
    assert attempt_of(gang(workload(), pod(), pod(5)), None, NOW).started_at == NOW + 5


def test_a_pod_without_a_time_of_its_container_started_when_the_kubelet_took_it() -> None:
    late = pod(1)
    late["status"] |= {"startTime": timestamp(NOW + 9), "containerStatuses": [{"name": "trainer", "state": {}}]}
    assert attempt_of(gang(workload(), pod(), late), None, NOW).started_at == NOW + 9


def test_a_gang_that_its_queue_takes_back_has_not_crashed_even_if_all_pods_end_in_the_second_they_are_told_to() -> None:
    deleted = {"deletionTimestamp": timestamp(NOW + 130), "deletionGracePeriodSeconds": 120}
    pods = [pod(code=143, **deleted), pod(code=143, **deleted)]
    assert not attempt_of(gang(workload(), *pods), None, NOW).disrupted
    assert attempt_of(gang(workload(spec={"suspend": True}), *pods), None, NOW).disrupted
    failing = workload(spec={"suspend": True}, status=said("FailureTarget"))
    assert not attempt_of(gang(failing, *pods), None, NOW).disrupted


def test_gangs_are_found_by_owner_and_orphaned_pods_by_label() -> None:
    found, foreign = gangs_of(MODEL, [workload()], [pod(), pod(1, owner="gone"), pod(2, owner="gone", code=1)])
    assert [(one.workload is not None, len(one.pods)) for one in found] == [(True, 1), (False, 1)]
    assert found[0].first_pod is not None
    assert found[0].attempt == 3
    assert foreign == []


def test_what_only_carries_the_labels_is_no_gang() -> None:
    """A Job of another model's, a copy for debugging, with its pod, and a pod that somebody made."""
    other, copied = workload(), workload()
    other["metadata"] |= {"uid": "other", "ownerReferences": [{"uid": "other", "controller": True}]}
    copied["metadata"] |= {"uid": "copy", "name": f"{JOB}-debug"}
    pods = [pod(), pod(1, owner="copy"), pod(2, ownerReferences=[])]
    found, foreign = gangs_of(MODEL, [workload(), other, copied], pods)
    assert [len(one.pods) for one in found] == [1]
    assert foreign == [other, copied, pods[2]]


@pytest.mark.parametrize(
    ("pods", "code", "disrupted"),
    [
        ([pod(code=137), pod(1, code=65)], 65, False),
        ([pod(code=1), pod(1, code=75)], 75, True),
        ([pod(code=75), pod(1, code=74)], 74, False),
        ([pod(code=139), pod(1, code=1)], 139, False),  # the first to end, where none says more
        ([pod(code=137, **DELETED), pod(1, code=1)], 137, True),
        ([pod(phase="Failed")], None, True),  # turned away by the kubelet
        ([], None, False),
    ],
)
def test_a_gang_has_one_cause(pods: list[dict[str, Any]], code: int | None, disrupted: bool) -> None:
    if len(pods) == 1:
        pods[0]["status"]["containerStatuses"] = []
    cause = cause_of(workload(status=said("Failed")), pods)
    assert (cause.exit_code, cause.disruption is not None) == (code, disrupted)


def test_a_failure_is_told_in_the_best_words_there_are() -> None:
    failed = pod(code=1)
    ended = failed["status"]["containerStatuses"][0]["state"]["terminated"]
    assert cause_of(None, [failed]).message == "the trainer ended with exit code 1"
    ended["message"] = "Traceback\nRuntimeError: no space\n"
    assert cause_of(None, [failed]).message == "RuntimeError: no space"
    assert log_tail([failed], "") == "Traceback\nRuntimeError: no space"
    assert len((log_tail([failed], "ü" * 5000) or "").encode()) <= 2048
    ended["reason"], ended["message"] = "OOMKilled", ""
    assert cause_of(None, [failed]).memory_killed
    assert overran(workload(status=said("Failed", "DeadlineExceeded")))


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        (
            {"reason": "TerminationByKubelet", "message": "The node was low on resource: ephemeral-storage."},
            "TerminationByKubelet",
            "j-0 on node gpu-7: The node was low on resource: ephemeral-storage.",
        ),
        (
            {"reason": "DeletionByTaintManager", "message": "Taint manager: deleting due to NoExecute taint"},
            "DeletionByTaintManager",
            "j-0 on node gpu-7: Taint manager: deleting due to NoExecute taint",
        ),
    ],
)
def test_an_eviction_is_reported_in_the_words_of_who_evicted_and_names_the_node(
    changes: dict[str, str], reason: str, words: str
) -> None:
    evicted = pod(code=137) | {"spec": {"nodeName": "gpu-7"}}
    evicted["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"} | changes]
    disruption = cause_of(workload(status=said("Failed")), [evicted]).disruption
    assert disruption is not None
    assert (disruption.reason, disruption.message) == (reason, words)


def test_nodes_that_did_not_meet_are_told_from_a_stop() -> None:
    line = '{"kronos":1,"event":"error","exitCode":75,"cause":"NodesDidNotMeet","message":"node 1 did not answer"}'
    apart = pod(code=75)
    apart["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = line
    cause = cause_of(workload(status=said("Failed")), [apart])
    assert cause.disruption is not None
    assert (cause.disruption.reason, cause.disruption.message) == ("NodesDidNotMeet", "node 1 did not answer")
    for code in (75, 143):
        stopped = cause_of(workload(status=said("Failed")), [pod(code=code)])
        assert stopped.disruption is not None and stopped.disruption.reason == "Stopped"


@pytest.mark.parametrize(
    ("code", "reason", "killed"),
    [(137, "OOMKilled", True), (1, "OOMKilled", True), (72, "Error", True), (137, "", False)],
)
def test_a_kill_for_memory_is_known_by_the_kubelets_word_or_the_launchers_code(
    code: int, reason: str, killed: bool
) -> None:
    ended = pod(code=code)
    ended["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] = reason
    assert cause_of(workload(status=said("Failed")), [ended]).memory_killed is killed
    ended["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    assert not cause_of(workload(status=said("Failed")), [ended]).memory_killed


def test_a_launcher_that_saw_only_a_sigkill_does_not_hide_the_limit() -> None:
    words = json.dumps({"kronos": 1, "event": "error", "exitCode": 1, "message": "rank 0 was killed by SIGKILL"})
    ended = pod(code=1)
    ended["status"]["containerStatuses"][0]["state"]["terminated"] |= {"reason": "OOMKilled", "message": words}
    attempt = attempt_of(gang(workload(status=said("Failed")), ended), read_report([words]), NOW)
    assert attempt.memory_killed
    assert attempt.message == ""  # plan names the limit and what to raise


def test_only_what_cannot_end_by_itself_is_deleted() -> None:
    evicted = pod(**DELETED)
    assert not cannot_go_on(gang(workload(), evicted), NOW + 100)
    assert cannot_go_on(gang(workload(), evicted), NOW + 120 + 60)
    assert cannot_go_on(gang(workload("PyTorchJob"), evicted), NOW)
    assert not cannot_go_on(gang(workload("PyTorchJob", status=said("Failed")), evicted), NOW)
    assert not cannot_go_on(gang(None, evicted), NOW + 1000)
    failing = workload(spec={"suspend": True}, status=said("FailureTarget", "PodFailurePolicy"))
    assert cannot_go_on(gang(failing), NOW)
    assert not cannot_go_on(gang(failing, pod()), NOW)
    assert not cannot_go_on(gang(workload(spec={"suspend": True}, status=said("Suspended"))), NOW)


def test_the_lines_of_a_trainer_are_read_among_others() -> None:
    log = "\n".join(
        [
            "W1125 torchrun is chatty",
            '{"not": "ours"}',
            '{"kronos":1,"event":"progress","step":5,"steps":10,"percent":50.0,"time":"2027-01-15T08:00:00.123Z"}',
            '{"kronos":1,"event":"progress","step":6,"st',
        ]
    )
    report = read_report(log.splitlines())
    assert (report.has_progress, report.logged_at) == (True, NOW + 0.123)
    assert read_report([], report) == report
    progress = progress_of(report, 3, StageName.TOKENIZER)
    assert (progress.percent, progress.summary, progress.eta) == (50.0, "50%", None)


WORDS = ['"x"', '"caf\\udce9"', '"0001-01-01T00:00:00+14:00"', '"9999-12-31T23:59:59-14:00"', "null", "[]", "true"]
NUMBERS = ["NaN", "Infinity", "-1e400", "1e30", "1e300", "-5", "-1e13", "9" * 400]


@pytest.mark.parametrize("value", [*WORDS, *NUMBERS])
def test_no_line_can_break_a_status(value: str) -> None:
    sizes = ("bytes", "dataThrough")
    fields = ("step", "steps", "percent", "etaSeconds", "loss", "validationLoss", "samplesPerSecond", "epoch", "phase")
    line = ",".join(f'"{field}":{value}' for field in (*fields, "time", "message", "digest", "seconds", *sizes))
    report = Report()
    for event in ("progress", "phase", "error"):
        report = read_report([f'{{"kronos":1,"event":"{event}",{line}}}'], report)
    report = read_report([f'{{"kronos":1,"event":"result","result":{{"stage":"tokenizer",{line}}}}}'], report)
    progress = progress_of(report, 0, StageName.TOKENIZER)
    result = result_of(report, StageName.TOKENIZER)
    assert result is not None
    stage = RunStage(
        stage=StageName.TOKENIZER,
        hash="a" * 16,
        digest=result.digest or None,
        bytes=result.bytes,
        data_through=result.through or None,
        metrics=result.metrics,
    )
    for part in (progress, stage, Failure(reason="x", message=report.error)):
        json.dumps(json.loads(part.model_dump_json()), allow_nan=False).encode()
    assert len(progress.summary or "") <= 32 and (progress.percent or 0) <= 100


def test_no_control_character_of_a_trainer_enters_a_status() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\x00bars.csv\ud800"
    lines = [json.dumps({"kronos": 1, "event": "error", "message": evil})]
    lines += [json.dumps({"kronos": 1, "event": "result", "result": {"stage": "tokenizer", "digest": evil}})]
    lines += [json.dumps({"kronos": 1, "event": "checkpointSkipped", "step": 1, "reason": evil})]
    lines += [json.dumps({"kronos": 1, "event": "note", "message": evil})]
    report = read_report(lines)
    result = result_of(report, StageName.TOKENIZER)
    assert result is not None
    digest = RunStage(stage=StageName.TOKENIZER, hash="a" * 16, digest=result.digest).digest
    failure = Failure(reason="x", message=evil, log_tail=evil)
    texts = [report.error, *report.skipped, *report.notes, digest, failure.message, failure.log_tail]
    for text in texts:
        assert text is not None and text.endswith("bars.csv\ufffd")
        assert not set(text) & set("\x1b\x07\x00\u202e\ud800")


def test_a_line_of_nothing_but_brackets_is_passed_over() -> None:
    assert read_report(['{"kronos":' + "[" * 100_000], Report()) == Report()
