"""An API server, a Job controller and a kubelet in memory, with the manners that matter: versions, uids, slow deletion.

It can be told to cut the operator off after any of its writes, and what the operator sees of children may lag behind.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from kronos_operator import names
from kronos_operator.api import BackendName
from kronos_operator.backends import BACKENDS, backend_of
from kronos_operator.kube import Conflict, Created, Key, Kind, LogEnd, NotFound, Rejected, Unavailable
from kronos_operator.kube.client import Page
from kronos_operator.kube.clock import ServerClock
from kronos_operator.kube.kinds import CONFIGMAP, KRONOSMODEL, POD

Object = dict[str, Any]
JOB, PYTORCHJOB = BACKENDS[BackendName.JOB].kind, BACKENDS[BackendName.PYTORCH_JOB].kind
_WORKLOADS = {backend.kind.plural for backend in BACKENDS.values()}


class Crash(BaseException):
    """The operator's process ends here."""


def timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


class FakeCluster:
    """All objects of one namespace, `ns`."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now
        self.clock = ServerClock(lambda: self.now)
        self.objects: dict[tuple[str, str], Object] = {}
        self.logs: dict[str, str | None] = {}  # None: it cannot be read
        self.writes: list[str] = []
        self.reads: list[str] = []
        self.started: list[str] = []  # names of the workloads that were made
        self.events: list[tuple[str, str]] = []
        self.crash_in: int | None = None  # writes until the operator is cut off
        self.unavailable: Kind | None = None  # it cannot be read
        self.single_deletions = False  # the operator's role does not let it delete several objects at once
        self.calls = 0
        self.meanwhile: dict[int, Callable[[], Awaitable[None]]] = {}  # before the answer to a call, by its number
        self.reject: dict[str, Rejected] = {}  # by kind
        self._numbers = itertools.count(1)

    # What the operator calls.

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        self.reads.append(f"get {kind.plural} {name}")
        self._refuse(kind)
        found = copy.deepcopy(self.objects.get((kind.plural, name)))
        await self._answer()
        return found

    async def list(
        self, kind: Kind, namespace: str | None, *, selector: str = "", fields: str = ""
    ) -> tuple[list[Object], str]:
        self.reads.append(f"list {kind.plural}")
        self._refuse(kind)
        uid = fields.partition("=")[2]
        found = [
            body
            for (plural, _), body in self.objects.items()
            if plural == kind.plural
            and _selected(selector, body["metadata"].get("labels") or {})
            and uid in ("", (body.get("involvedObject") or {}).get("uid"))
        ]
        listed = copy.deepcopy(found)
        await self._answer()
        return listed, "1"

    async def pages(self, kind: Kind, namespace: str | None) -> AsyncIterator[Page]:
        yield Page(*await self.list(kind, namespace))

    async def create(self, kind: Kind, body: Object) -> Created:
        if kind.kind in self.reject:
            raise self.reject[kind.kind]
        name = body["metadata"]["name"]
        there = self.objects.get((kind.plural, name))
        if there is not None:
            ours = _owner(there) == _owner(body) and "deletionTimestamp" not in there["metadata"]
            await self._answer()
            return Created.EXISTS_OURS if ours else Created.EXISTS_OTHER
        assert body["metadata"]["namespace"] == "ns"
        self.put(kind, json.loads(json.dumps(body)))
        if kind.plural in _WORKLOADS:
            self.started.append(name)
        self._wrote(f"create {kind.plural} {name}")
        await self._answer()
        return Created.DONE

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None = None, propagation: str = "Background"
    ) -> bool:
        body = self.objects.get((kind.plural, name))
        if body is None or uid not in (None, body["metadata"]["uid"]):
            return False
        self._delete(kind, name, propagation)
        self._wrote(f"delete {kind.plural} {name}")
        await self._answer()
        return True

    async def delete_exactly(self, kind: Kind, body: Object, propagation: str = "Background") -> bool:
        metadata = body["metadata"]
        return await self.delete(kind, "ns", metadata["name"], uid=metadata["uid"], propagation=propagation)

    async def delete_collection(
        self, kind: Kind, namespace: str, *, selector: str, propagation: str = "Background"
    ) -> None:
        if self.single_deletions:
            raise Rejected("cannot deletecollection", status=403)
        for plural, name in list(self.objects):
            body = self.objects.get((plural, name), {})
            if body and plural == kind.plural and _selected(selector, body["metadata"].get("labels") or {}):
                self._delete(kind, name, propagation)
        self._wrote(f"deletecollection {kind.plural}")
        await self._answer()

    def _delete(self, kind: Kind, name: str, propagation: str) -> None:
        if kind.plural not in _WORKLOADS:
            del self.objects[kind.plural, name]
            return
        assert propagation == "Foreground"
        self.objects[kind.plural, name]["metadata"].setdefault("deletionTimestamp", timestamp(self.now))
        for pod in self.pods(name):
            self.delete_pod(pod)
        self.collect()

    async def apply_status(self, body: Object) -> Object:
        there = self.objects.get((KRONOSMODEL.plural, body["metadata"]["name"]))
        if there is None:
            raise NotFound("gone", status=404)
        if there["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise Conflict("changed", status=409)
        status = json.loads(json.dumps(body["status"], allow_nan=False))
        if status != there.get("status"):
            there["status"] = status
            self.touch(there)
        self._wrote("status")
        answer = copy.deepcopy(there)
        await self._answer()
        return answer

    async def pod_log(self, namespace: str, pod: str, *, since: str, tail_lines: int, **_: Any) -> LogEnd | None:
        self.reads.append(f"log {pod}")
        log = self.logs.get(pod, "")
        lines = None if log is None else log.splitlines()
        await self._answer()
        # The number of a line serves as its time.
        return None if lines is None else LogEnd(lines[int(since or 0) :][-tail_lines:], str(len(lines)))

    async def post(self, regarding: Object, *, reason: str, note: str, action: str, type: str = "Normal") -> None:
        self.events.append((type, reason))

    # What tests do.

    def put(self, kind: Kind, body: Object) -> Object:
        metadata = body["metadata"]
        metadata.update(uid=f"uid-{next(self._numbers)}", namespace="ns", creationTimestamp=timestamp(self.now))
        body.setdefault("kind", kind.kind)
        self.touch(body)
        self.objects[kind.plural, metadata["name"]] = body
        if kind.plural in _WORKLOADS:
            body.setdefault("status", {})
        return body

    def touch(self, body: Object) -> None:
        body["metadata"]["resourceVersion"] = str(next(self._numbers))

    def model(self, name: str = "m") -> Object:
        return self.objects[KRONOSMODEL.plural, name]

    def change_spec(self, **parts: Any) -> None:
        body = self.model()
        body["spec"] |= parts
        body["metadata"]["generation"] += 1
        self.touch(body)

    def annotate(self, name: str, value: str) -> None:
        self.model()["metadata"].setdefault("annotations", {})[name] = value
        self.touch(self.model())

    def workloads(self) -> list[Object]:
        return [body for (plural, _), body in self.objects.items() if plural in _WORKLOADS]

    def names(self, kind: Kind) -> list[str]:
        return sorted(name for plural, name in self.objects if plural == kind.plural)

    def pods(self, workload: str) -> list[Object]:
        uid = next((body["metadata"]["uid"] for body in self.workloads() if body["metadata"]["name"] == workload), "")
        return [body for (plural, _), body in self.objects.items() if plural == POD.plural and _owner(body) == uid]

    def live(self) -> list[str]:
        """Workloads of which a pod runs, or may still be made."""
        return [body["metadata"]["name"] for body in self.workloads() if not self._over(body)]

    def children(self) -> list[Object]:
        """Workloads, and the pods of any."""
        return [*self.workloads(), *(body for (plural, _), body in self.objects.items() if plural == POD.plural)]

    def make_pods(self, workload: str, count: int = 1) -> None:
        """The Job controller."""
        body = self._workload(workload)
        if self.pods(workload) or body["metadata"].get("deletionTimestamp") or _conditions(body):
            return
        for index in range(count):
            labels = body["metadata"]["labels"] | {"batch.kubernetes.io/job-completion-index": str(index)}
            owner = {"uid": body["metadata"]["uid"], "kind": body["kind"], "name": workload, "controller": True}
            pod = {
                "metadata": {"name": f"{workload}-{index}", "labels": labels, "ownerReferences": [owner]},
                "status": {"phase": "Pending"},
            }
            self.put(POD, pod)

    def run_pods(self, workload: str) -> None:
        """The kubelet, which mounts the attempt's ConfigMap first, if the pod has one."""
        mounts = '"configMap"' in json.dumps(self._workload(workload)["spec"])
        if mounts and (CONFIGMAP.plural, workload) not in self.objects:
            return
        for pod in self.pods(workload):
            if pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]:
                state = {"running": {"startedAt": timestamp(self.now)}}
                pod["status"] = {"phase": "Running", "containerStatuses": [{"name": "trainer", "state": state}]}

    def end_pods(self, workload: str, code: int, message: str = "") -> None:
        """The trainer ends in every pod, and the Job controller takes note."""
        for pod in self.pods(workload):
            if pod["status"]["phase"] not in ("Succeeded", "Failed"):
                self.end_pod(pod, code, message)
        self.finish(workload, failed=code != 0)

    def end_pod(self, pod: Object, code: int, message: str = "") -> None:
        ended = {"exitCode": code, "finishedAt": timestamp(self.now), "message": message}
        pod["status"] |= {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": "trainer", "state": {"terminated": ended}}],
        }

    def finish(self, workload: str, *, failed: bool, reason: str = "BackoffLimitExceeded", message: str = "") -> None:
        body = self._workload(workload)
        if body["metadata"].get("deletionTimestamp"):
            self.collect()
        elif not _conditions(body):
            kind = backend_of(body).failed if failed else backend_of(body).succeeded
            told = {"type": kind, "status": "True", "reason": reason, "message": message}
            body["status"]["conditions"] = [told | {"lastTransitionTime": timestamp(self.now)}]

    def delete_pod(self, pod: Object, grace: int = 120) -> None:
        """Somebody deletes a pod: it ends at its own time, unless it was never started."""
        if pod["status"]["phase"] == "Pending":
            self.remove(POD, pod["metadata"]["name"])
            return
        pod["metadata"].setdefault("deletionTimestamp", timestamp(self.now + grace))
        pod["metadata"].setdefault("deletionGracePeriodSeconds", grace)

    def remove(self, kind: Kind, name: str) -> None:
        self.objects.pop((kind.plural, name), None)

    def collect(self) -> None:
        """The garbage collector: a workload that is being deleted goes with its last running pod."""
        for body in self.workloads():
            if body["metadata"].get("deletionTimestamp") and self._over(body):
                for pod in self.pods(body["metadata"]["name"]):
                    self.remove(POD, pod["metadata"]["name"])
                self.objects.pop((f"{body['kind'].lower()}s", body["metadata"]["name"]))

    def say(self, workload: str, **fields: Any) -> None:
        """Rank 0 prints a line."""
        line = {"kronos": 1, "time": timestamp(self.now)} | fields
        pod = f"{workload}-0"
        self.logs[pod] = (self.logs.get(pod) or "") + json.dumps(line) + "\n"

    def _refuse(self, kind: Kind) -> None:
        if kind is self.unavailable:
            raise Unavailable("the server is busy", status=500)

    async def _answer(self) -> None:
        happens = self.meanwhile.pop(self.calls, None)
        self.calls += 1
        if happens is not None:
            await happens()

    def _workload(self, name: str) -> Object:
        return next(body for body in self.workloads() if body["metadata"]["name"] == name)

    def _over(self, body: Object) -> bool:
        pods = self.pods(body["metadata"]["name"])
        ended = all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in pods)
        return ended and bool(_conditions(body) or body["metadata"].get("deletionTimestamp"))

    def _wrote(self, what: str) -> None:
        self.writes.append(what)
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                self.crash_in = None
                raise Crash


class Lister:
    """What an operator sees of children; by default the present, else what was there when `freeze` was called."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._frozen: list[Object] | None = None

    def freeze(self) -> None:
        self._frozen = copy.deepcopy([*self._cluster.objects.values()])

    def thaw(self) -> None:
        self._frozen = None

    def workloads(self, model: Key) -> list[Object]:
        return self._of([backend.kind.kind for backend in BACKENDS.values()], model)

    def pods(self, model: Key) -> list[Object]:
        return self._of([POD.kind], model)

    def _of(self, kinds: Sequence[str], model: Key) -> list[Object]:
        bodies = self._cluster.objects.values() if self._frozen is None else self._frozen
        return [
            copy.deepcopy(body)
            for body in bodies
            if body.get("kind") in kinds and (body["metadata"].get("labels") or {}).get(names.MODEL_LABEL) == model.name
        ]


def make_model(**spec: Any) -> Object:
    parts: dict[str, Any] = {
        "timeframe": "1d",
        "data": {"source": {"claim": {"name": "bars"}}},
        "storage": {"claim": {"name": "models"}},
        "evaluation": {"enabled": False},
        "retry": {"maxRestarts": 2, "backoffSeconds": 10, "progressDeadlineSeconds": 600},
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "m", "namespace": "ns", "generation": 1},
        "spec": parts | spec,
    }


def frozen_runs(cluster: FakeCluster) -> list[str]:
    return [name for name in cluster.names(CONFIGMAP) if "-tok-" not in name and "-pred-" not in name]


def _selected(selector: str, labels: dict[str, str]) -> bool:
    """Whether a label selector of the forms `a=b` and `a in (b,c)` names an object with these labels."""
    wanted = re.findall(r"([^=, ]+)(?:=([^,]*)| in \(([^)]*)\))", selector)
    return all(labels.get(name) in (one or several).split(",") for name, one, several in wanted)


def _conditions(body: Object) -> list[Object]:
    return (body.get("status") or {}).get("conditions") or []


def _owner(body: Object) -> str:
    return next((owner["uid"] for owner in body["metadata"].get("ownerReferences") or []), "")
