"""The commands for a cluster, with one in memory: how it is chosen, what is shown, and whose log is printed."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import rich.console
import yaml
from fake_cluster import FakeCluster, make_model

from kronos_operator import names
from kronos_operator.api import KronosModel
from kronos_operator.cli import main
from kronos_operator.cli.cluster import logs, operations, status
from kronos_operator.cli.cluster.session import OPERATOR_INSTALL
from kronos_operator.kube import Cluster, Kind, NoCluster, NotFound, Unavailable
from kronos_operator.kube.kinds import KRONOSMODEL, POD
from kronos_operator.plan import PointerRequest, Verb
from kronos_trainer.config import StageName

MEANS_CLUSTER = (["--cluster"], ["--context", "west"], ["--kubeconfig", "config"])


class UserCluster(FakeCluster):
    """The fake as the commands use it: with patches, followed logs, and a context whose namespace is `ns`."""

    namespace = "ns"
    server = "https://fake"

    def __init__(self) -> None:
        super().__init__()
        self.connections: list[tuple[Path | None, str | None]] = []
        self.rounds: list[Any] = []  # what happens to the cluster whenever models are looked at again
        self.breaks: dict[str, int] = {}  # lines after which the log of a pod breaks off, once

    async def close(self) -> None:
        """Nothing to end."""

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        if kind is KRONOSMODEL and self.rounds:
            self.rounds.pop(0)()
        return await super().get(kind, namespace, name)

    async def patch(self, kind: Kind, namespace: str, name: str, patch: dict[str, Any], *, manager: str) -> Any:
        body = self.objects.get((kind.plural, name))
        if body is None:
            raise NotFound("gone", status=404)
        assert (namespace, manager) == ("ns", "kronos")
        _merge(body, patch)
        self.touch(body)
        return copy.deepcopy(body)

    async def follow_log(self, namespace: str, pod: str, *, container: str, follow: bool = True) -> AsyncIterator[str]:
        statuses = self.objects[POD.plural, pod]["status"]["containerStatuses"]
        assert container == statuses[0]["name"]
        after = self.breaks.pop(pod, None)
        for number, line in enumerate(self.logs[pod].splitlines()):
            if number == after:
                raise Unavailable("broken off")
            yield line

    def add_model(self, **spec: Any) -> None:
        self.put(KRONOSMODEL, make_model(**spec))

    def add_pod(self, node: int, *, attempt: int = 0, stage: str = "tokenizer", state: str = "running") -> None:
        name = f"m-{stage}-{attempt}-{node}"
        labels = {
            names.MODEL_LABEL: "m",
            names.STAGE_LABEL: stage,
            names.ATTEMPT_LABEL: str(attempt),
            "batch.kubernetes.io/job-completion-index": str(node),
        }
        job = names.child_name("m", StageName(stage), "0123abcd", attempt)
        owner = {"kind": "Job", "name": job, "uid": job, "controller": True}
        pod = {
            "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
            "status": {"containerStatuses": [{"name": "trainer", "state": {state: {}}}]},
        }
        self.put(POD, pod)
        line = {"kronos": 1, "event": "note", "stage": stage, "message": f"attempt {attempt} reads bars"}
        self.logs[name] = f"{json.dumps(line)}\nhello from {node}\n" if node == 0 else f"hello from {node}\n"

    def finish(self, reason: str = "Succeeded") -> None:  # type: ignore[override]
        status = self.model().setdefault("status", {})
        status.setdefault("conditions", []).append({"type": "Finished", "status": "True", "reason": reason})
        status.setdefault("run", {"id": "1"})["outcome"] = reason
        for (plural, _), body in self.objects.items():
            if plural == POD.plural:
                body["status"]["containerStatuses"][0]["state"] = {"terminated": {}}


def _merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        if isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> UserCluster:
    """What every connection leads to, from an empty working directory."""
    fake = UserCluster()

    async def connect(*, kubeconfig: Path | None = None, context: str | None = None) -> UserCluster:
        fake.connections.append((kubeconfig, context))
        return fake

    monkeypatch.setattr(Cluster, "connect", connect)
    monkeypatch.setattr(logs, "POLL_SECONDS", 0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KRONOS_OUTPUT_PATH", raising=False)
    return fake


@pytest.mark.parametrize("options", MEANS_CLUSTER)
def test_an_option_means_the_cluster_and_a_namespace_alone_does_not(
    cluster: UserCluster, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add_model()
    assert main(["suspend", "m", *options]) == 0
    assert cluster.model()["spec"]["suspend"] is True
    (connection,) = cluster.connections
    assert connection == {"--cluster": (None, None), "--context": (None, "west")}.get(
        options[0], (Path("config"), None)
    )
    capsys.readouterr()
    assert main(["suspend", "m", "-n", "ns"]) == 66
    assert "no model m in " in capsys.readouterr().err
    assert len(cluster.connections) == 1


def test_a_cluster_lists_what_its_models_have_published(
    cluster: UserCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add_model()
    history = [{"run": "aaaa", "outcome": "Succeeded", "verdict": "Better", "finishedAt": "2024-08-01T00:00:00Z"}]
    newest = {"run": "bbbb", "verdict": "Worse", "improvement": -0.2, "last": "2024-05-01T00:00:00"}
    cluster.objects["kronosmodels", "m"]["status"] = {
        "phase": "Succeeded",
        "artifacts": {"run": "aaaa"},
        "history": history,
        "evaluation": newest,
    }
    assert main(["list", "--cluster", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["verdict"] == "Better" and listed["improvement"] is None  # the numbers are of another run
    assert listed["since"] == "2024-08-01T00:00:00Z"

    newest["run"] = "aaaa"
    cluster.objects["kronosmodels", "m"]["status"]["evaluation"] = newest
    assert main(["list", "--context", "west"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["MODEL", "PHASE", "PUBLISHED", "VERDICT", "IMPROVED", "AGE", "DATA", "TO", "SIZE"]
    assert row.startswith("m      Succeeded  aaaa       Worse     -20.0 %")
    assert row.split()[-2:] == ["-", "-"]  # of an older operator or trainer

    weights = {
        "tokenizer": {"bytes": 1024, "dataThrough": "2024-05-31"},
        "predictor": {"bytes": 2048, "dataThrough": "2024-06-30"},
    }
    cluster.objects["kronosmodels", "m"]["status"]["artifacts"] |= weights
    assert main(["list", "--cluster"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-3:] == ["2024-06-30", "3.0", "KiB"]
    del weights["tokenizer"]["bytes"]
    cluster.objects["kronosmodels", "m"]["status"]["artifacts"] |= weights
    assert main(["list", "--cluster", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["dataThrough"], listed["testedTo"]) == ("2024-06-30", "2024-05-01T00:00:00")
    assert listed["bytes"] is None  # half of it would be no size
    assert main(["list", "m.yaml", "--cluster"]) == 64
    assert "leave out the files" in capsys.readouterr().err


def test_without_the_extra_it_is_named(cluster: UserCluster, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "kubernetes" else found(name))
    # As if no module of it could be imported.
    monkeypatch.setitem(sys.modules, "kronos_operator.kube", None)
    Path("model.yaml").write_text(yaml.safe_dump(make_model()))
    Path("IBM.csv").write_text("timestamps,close\n")
    forecast = ["forecast", "--model", "m", "--input", "IBM.csv", "--output", "o.csv"]
    push = ["data", "push", "IBM.csv", "--claim", "bars"]
    for command in (
        ["status"],
        ["logs", "m"],
        ["retrain", "m"],
        ["diff", "-f", "model.yaml"],
        ["pull", "m", "--to", "out"],
        push,
        forecast,
    ):
        assert main([*command, "--cluster"]) == 78
        assert capsys.readouterr().err == f"error: cluster commands need the operator extra: {OPERATOR_INSTALL}\n"
    assert main(["submit", "-f", "model.yaml"]) == 78


def test_a_cluster_that_is_not_there_is_one_line(cluster: UserCluster, monkeypatch: Any, capsys: Any) -> None:
    async def connect(**_: Any) -> Cluster:
        raise NoCluster("no cluster is configured")

    monkeypatch.setattr(Cluster, "connect", connect)
    assert main(["status", "--cluster"]) == 78
    assert capsys.readouterr().err == "error: no cluster is configured\n"


def test_a_file_that_no_pod_can_train_is_not_sent(cluster: UserCluster, capsys: pytest.CaptureFixture[str]) -> None:
    body = make_model(data={"source": {"path": "bars.csv"}})
    del body["spec"]["storage"]
    text = yaml.safe_dump(body)
    Path("model.yaml").write_text(text)
    line = next(number for number, row in enumerate(text.splitlines(), 1) if "bars.csv" in row)
    assert main(["submit", "-f", "model.yaml"]) == 64
    path, storage = capsys.readouterr().err.splitlines()
    assert path.startswith(f"error: model.yaml:{line}: spec.data.source.path: a pod cannot reach")
    assert storage.startswith("error: model.yaml: spec.storage: is required in a cluster")
    assert cluster.connections == []


def test_a_namespace_is_never_guessed_between_two(cluster: UserCluster, capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.yaml").write_text(yaml.safe_dump(make_model()))
    assert main(["submit", "-f", "model.yaml", "-n", "other"]) == 64
    assert capsys.readouterr().err == "error: model.yaml: metadata.namespace is ns, and --namespace other\n"
    assert cluster.writes == []


def test_status_tells_the_story_of_a_model(cluster: UserCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add_model()
    cluster.put(KRONOSMODEL, make_model() | {"metadata": {"name": "new"}})
    cluster.model()["status"] = {
        "phase": "Restarting",
        "stage": "predictor",
        "progress": {"summary": "43%", "eta": "2h13m", "validationLoss": 0.25},
        "run": {
            "id": "1a2b3c4d",
            "attempt": 3,
            "startedAt": "2026-11-20T06:00:00Z",
            "restarts": {"crashes": 2, "disruptions": 0, "last": {"reason": "TrainerCrashed"}},
        },
        "queuePosition": 2,
        "evaluation": {
            "run": "00000000",
            "verdict": "Better",
            "metric": "crps",
            "against": "start",
            "improvement": 0.041,
            "low": 0.012,
            "high": 0.069,
            "dates": 40,
            "promotion": "Held",
            "message": "not better than the published one",
            "ofANewerOperator": 1,
        },
        "report": "models/ns/m/runs/1a2b3c4d/report.html",
        "conditions": [{"type": "Ready", "status": "True", "reason": "Waiting", "message": "no node has a free GPU"}],
        "artifacts": {"tokenizer": {"path": "models/ns/m/runs/0/tokenizer/best"}},
        "failure": {"reason": "Crashed", "message": "rank 1 died", "logTail": "Segmentation fault"},
        "history": [
            {"run": "00000000", "outcome": "Failed", "reason": "BadData", "finishedAt": "2026-11-19T01:00:00Z"},
            {"run": "00000001", "outcome": "Succeeded", "verdict": "Worse", "promotion": "Held"},
        ],
    }
    assert main(["status", "--cluster"]) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == [word for name in status.HEADERS for word in name.upper().split()]
    assert first.split()[:7] == ["m", "Restarting", "predictor", "43%", "2h13m", "0.2500", "Better"]
    assert first.split()[7:11] == ["Waiting,", "place", "2", "3"]
    assert "not processed by the operator yet" in second
    assert main(["status", "m", "--cluster"]) == 0
    shown = capsys.readouterr().out
    for words in (
        "no node has a free GPU",
        "run        1a2b3c4d, attempt 3, since 2026-11-20T06:00:00Z",
        "restarts   2 crashes\n",
        "tokenizer  models/ns/m/runs/0/tokenizer/best",
        "ended      00000000 Failed BadData 2026-11-19T01:00:00Z",
        "ended      00000001 Succeeded Worse Held\n",
        "evaluated  00000000, an earlier run\n",
        "verdict    Better: CRPS 4.1 % lower than start's (1.2 to 6.9 %), on 40 dates\n",
        "promotion  Held: not better than the published one\n",
        "report     models/ns/m/runs/1a2b3c4d/report.html\n",
        "Crashed: rank 1 died\nSegmentation fault",
    ):
        assert words in shown
    assert main(["status", "m", "--cluster", "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["status"]["run"]["id"] == "1a2b3c4d"


def test_nothing_that_a_cluster_tells_can_steer_the_terminal(
    cluster: UserCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b]0;title\x07\x1b[2J[red]a[/red]\x9b1m\u202eb\rc"
    shown = "[red]a[/red]\ufffdb\ufffdc"
    cluster.add_model()
    cluster.model()["status"] = {
        "phase": hostile,
        "progress": {"summary": hostile},
        "conditions": [{"type": "Ready", "status": "False", "reason": hostile, "message": hostile}],
        "failure": {"reason": "Crashed", "message": hostile, "logTail": hostile},
        "history": [{"run": "0", "outcome": "Failed", "reason": hostile}],
    }
    for terminal in (False, True):
        monkeypatch.setattr(rich.console.Console, "is_terminal", terminal)
        monkeypatch.setenv("COLUMNS", "300")
        assert main(["status", "m", "--cluster"]) == 0
        out = capsys.readouterr().out
        assert out.count(shown) == 7 and not set(out.replace(shown, "")) & set("\x07\x9b\u202e\r")
        assert "\x1b[2J" not in out and "\x1b]" not in out
    assert main(["status", "m", "--cluster", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)[0]["status"]["phase"] == hostile and not set(out) & set("\x1b\x9b\u202e")
    cluster.add_pod(0)
    cluster.logs["m-tokenizer-0-0"] = json.dumps({"kronos": 1, "event": "note", "message": hostile})
    assert main(["logs", "m", "--cluster"]) == 0
    assert capsys.readouterr().out == f"m: {shown}\n"
    cluster.objects.clear()
    assert main(["logs", hostile, "--cluster"]) == 66
    assert shown in capsys.readouterr().err


def away() -> None:
    raise Unavailable("cannot be reached")


def test_watching_prints_changes_and_outlives_an_api_server_that_is_away(
    cluster: UserCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def enough() -> None:
        raise KeyboardInterrupt

    def train() -> None:
        cluster.model()["status"] = {"phase": "Training"}

    monkeypatch.setattr("kronos_operator.cli.watching.WATCH_SECONDS", 0)
    monkeypatch.setattr(status, "row_of", lambda body, now: [(body.get("status") or {}).get("phase", "-")])
    cluster.add_model()
    cluster.rounds = [lambda: None, lambda: None, away, train, enough]
    assert main(["status", "m", "--watch", "--cluster"]) == 130
    assert capsys.readouterr().out == "-\nTraining\n"


def test_logs_are_those_of_every_pod_of_the_latest_attempt(
    cluster: UserCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add_model(resources={"nodes": 2, "gpusPerNode": 4})
    cluster.add_pod(0, attempt=0)
    for node in (1, 0):
        cluster.add_pod(node, attempt=10)
    cluster.add_pod(0, attempt=9)
    assert main(["logs", "m", "--cluster"]) == 0
    out = capsys.readouterr().out
    assert out == "[ranks 0-3] m: attempt 10 reads bars\n[ranks 0-3] hello from 0\n[ranks 4-7] hello from 1\n"
    assert main(["logs", "m", "--cluster", "--rank", "6"]) == 0
    assert capsys.readouterr().out == "[ranks 4-7] hello from 1\n"
    assert main(["logs", "m", "--cluster", "--rank", "8"]) == 66
    assert "m has no pod with rank 8" in capsys.readouterr().err
    assert main(["logs", "m", "--cluster", "--rank", "first"]) == 64
    assert main(["logs", "m", "--cluster", "--stage", "predictor"]) == 66
    assert main(["logs", "m", "--rank", "1"]) == 64
    assert "omit --rank" in capsys.readouterr().err


def test_following_goes_through_stages_and_lost_connections_to_the_end_of_the_run(
    cluster: UserCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add_model(resources={"gpusPerNode": 1})
    cluster.model()["status"] = {"conditions": [{"type": "Ready", "status": "True", "message": "waiting for a node"}]}
    cluster.breaks["m-tokenizer-0-0"] = 1
    cluster.rounds = [
        lambda: None,  # before it follows
        lambda: None,
        away,
        lambda: None,
        lambda: cluster.add_pod(0, state="waiting"),
        lambda: cluster.add_pod(0),
        *[lambda: None] * 4,
        lambda: cluster.add_pod(0, attempt=1, stage="predictor"),
        *[lambda: None] * 4,
        cluster.finish,
    ]
    assert main(["logs", "m", "-f", "--cluster"]) == 0
    out, err = capsys.readouterr()
    assert out == "m: attempt 0 reads bars\nhello from 0\nm: attempt 1 reads bars\nhello from 0\n"
    assert err == "waiting for a node\ncannot be reached\nwaiting for a node\n"


def test_following_ends_where_a_newer_spec_waits_for_its_user(cluster: UserCluster) -> None:
    cluster.add_model()
    waits = {"type": "Finished", "status": "False", "reason": "UpdateWaiting"}
    cluster.model()["status"] = {"conditions": [waits], "run": {"id": "1", "outcome": "Succeeded"}}
    cluster.rounds = [*[lambda: None] * 2, lambda: pytest.fail("it goes on")]
    assert main(["logs", "m", "-f", "--cluster"]) == 0


def test_requests_say_what_becomes_of_them(cluster: UserCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add_model(suspend=True)
    assert main(["retrain", "m", "--cluster"]) == 0
    assert "waits for `kronos resume`" in capsys.readouterr().out
    assert main(["resume", "m", "--cluster"]) == 0
    assert main(["resume", "m", "--cluster"]) == 0
    assert capsys.readouterr().out == "m: resumed from its last checkpoint\nm: was not suspended\n"
    cluster.model()["status"] = {"run": {"id": "1"}}
    assert main(["cancel", "m", "--cluster"]) == 0
    assert set(cluster.model()["metadata"]["annotations"]) == {names.RETRAIN_ANNOTATION, names.CANCEL_ANNOTATION}
    cluster.finish("Cancelled")
    assert main(["cancel", "m", "--cluster"]) == 66


@pytest.mark.parametrize(
    ("arguments", "annotation", "run"),
    [
        (["promote", "m"], names.PROMOTE_ANNOTATION, "candidate"),
        (["promote", "m", "3c0ffee3"], names.PROMOTE_ANNOTATION, "3c0ffee3"),
        (["rollback", "m"], names.ROLLBACK_ANNOTATION, None),
    ],
)
def test_a_promotion_is_asked_for_by_a_text_that_plan_reads_and_that_is_new_each_time(
    cluster: UserCluster, monkeypatch: pytest.MonkeyPatch, arguments: list[str], annotation: str, run: str | None
) -> None:
    cluster.add_model()
    texts = []
    for time in ("2026-11-28T12:00:00.000Z", "2026-11-28T12:00:01.000Z"):
        monkeypatch.setattr(operations, "now_text", lambda time=time: time)
        assert main([*arguments, "--cluster"]) == 0
        texts.append(cluster.model()["metadata"]["annotations"][annotation])
    model = KronosModel.from_server(cluster.model())
    first, second = (PointerRequest.of(model, Verb(arguments[0]), text) for text in texts)
    assert first.name != second.name and first.sound and 0 < first.asked_at < second.asked_at
    assert first.text.split()[0] == run if run else first.run == ""
    assert main([arguments[0], "absent", "--cluster"]) == 66


def test_status_shows_what_became_of_a_promotion(cluster: UserCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add_model()
    common = {"request": "candidate", "time": "2026-11-28T12:00:00Z"}
    conditions = [{"type": "Ready", "status": "True", "reason": "Promoted", "message": "run 1 is published"}]
    for promotion, words in (
        (
            {"action": "promote", "outcome": "Succeeded", "reason": "Promoted", "message": "run 1 is published"},
            "Promoted",
        ),
        ({"action": "rollback", "outcome": "Failed", "reason": "PodFailed", "message": "no other"}, "rollback failed"),
    ):
        cluster.model()["status"] = {"phase": "Succeeded", "conditions": conditions, "promotion": promotion | common}
        assert main(["status", "m", "--cluster"]) == 0
        assert f"promotion  {words}" in capsys.readouterr().out
