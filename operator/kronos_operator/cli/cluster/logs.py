"""`kronos logs` in a cluster: the output of every pod of a model's latest attempt, as it comes if wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from kronos_operator import names
from kronos_operator.cli.cluster.session import Session, connected
from kronos_operator.cli.cluster.status import condition
from kronos_operator.cli.failure import Failure
from kronos_operator.cli.target import Target
from kronos_operator.cli.terminal import print_line
from kronos_trainer.config import ExitCode, StageName

if TYPE_CHECKING:
    from kronos_operator.kube import Object

POLL_SECONDS = 1.0

Print = Callable[[str, str], None]
"""Takes a prefix that names the rank, empty for a single pod, and a line."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which pods to read: of the model's latest attempt, of a stage, with a rank; None is every one."""

    model: str
    stage: str | None
    rank: int | None


def show(target: Target, wanted: Wanted, *, follow: bool, readable: Callable[[str, str], str]) -> None:
    """Print the logs; `readable` makes a model's line fit for the eye. Raises Failure (66) where there is no pod."""
    with connected(target) as session:
        body = session.model(wanted.model)
        gang = _AttemptPods(session, wanted, body)

        def emit(prefix: str, line: str) -> None:
            print_line(prefix + readable(wanted.model, line))

        if follow:
            session.run(_follow(gang, emit))
            return
        pods = session.run(gang.pods())
        if not pods:
            raise Failure(_nothing(body, wanted), ExitCode.INPUT_MISSING)
        for pod in pods:
            if _started(pod, gang.container(pod)):
                session.run(gang.copy(pod, emit, follow=False))
            else:
                print_line(f"{pod['metadata']['name']} has not started yet", stderr=True)


class _AttemptPods:
    """The pods of the latest attempt, with how much of each was printed."""

    def __init__(self, session: Session, wanted: Wanted, body: Object) -> None:
        self._cluster = session.cluster
        self._namespace = session.namespace
        self._wanted = wanted
        self._resources = body["spec"].get("resources") or {}
        self._printed: dict[str, int] = {}  # lines, by the pod's uid

    async def model(self) -> Object | None:
        """The model as it is now."""
        from kronos_operator.kube.kinds import KRONOSMODEL

        return await self._cluster.get(KRONOSMODEL, self._namespace, self._wanted.model)

    async def pods(self) -> list[Object]:
        """The pods that are asked for, in the order of their ranks."""
        from kronos_operator.backends import node_rank
        from kronos_operator.kube.kinds import POD

        labels = {names.MODEL_LABEL: self._wanted.model}
        labels |= {names.STAGE_LABEL: self._wanted.stage} if self._wanted.stage else {}
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found, _ = await self._cluster.list(POD, self._namespace, selector=selector)
        newest = max((_attempt(pod) for pod in found), default=0)
        ranked = [(rank, pod) for pod in found if _attempt(pod) == newest and (rank := node_rank(pod)) is not None]
        asked = self._wanted.rank
        return [
            pod
            for rank, pod in sorted(ranked, key=itemgetter(0))
            if asked is None or asked // self._size(pod)[1] == rank
        ]

    def container(self, pod: Object) -> str:
        """Name of the trainer's container."""
        from kronos_operator.backends import backend_of_pod

        backend = backend_of_pod(pod)
        assert backend is not None  # others are not read
        return backend.container

    async def copy(self, pod: Object, emit: Print, *, follow: bool) -> None:
        """Prints the lines of a pod's log that were not printed yet, until it ends or the connection breaks off."""
        from kronos_operator.kube import NotFound, Unavailable

        metadata = pod["metadata"]
        number = 0
        try:
            lines = self._cluster.follow_log(
                self._namespace, metadata["name"], container=self.container(pod), follow=follow
            )
            async for line in lines:
                number += 1
                if number > self._printed.get(metadata["uid"], 0):
                    self._printed[metadata["uid"]] = number
                    emit(self._prefix(pod), line)
        except NotFound:
            return
        except Unavailable:
            if not follow:
                raise

    def _prefix(self, pod: Object) -> str:
        nodes, processes = self._size(pod)
        if nodes == 1:
            return ""
        from kronos_operator.backends import node_rank

        first = (node_rank(pod) or 0) * processes
        return f"[rank {first}] " if processes == 1 else f"[ranks {first}-{first + processes - 1}] "

    def _size(self, pod: Object) -> tuple[int, int]:
        """Nodes of the pod's gang, and processes of each."""
        from kronos_operator.api import Resources

        stage = StageName(_labels(pod)[names.STAGE_LABEL])
        resources = Resources.model_validate(self._resources).of_stage(stage)
        return resources.nodes, resources.processes


async def _follow(gang: _AttemptPods, emit: Print) -> None:
    """Prints the logs of every pod, also those of following stages and attempts, until the model's run has ended."""
    from kronos_operator.kube import Unavailable

    reading: dict[str, asyncio.Task[None]] = {}
    notified = ""
    try:
        while True:
            try:
                body, pods = await gang.model(), await gang.pods()
            except Unavailable as error:
                notified = _notify_once(error.message, notified)
                await asyncio.sleep(POLL_SECONDS)
                continue
            for pod in pods:
                uid = pod["metadata"]["uid"]
                broken_off = uid in reading and reading[uid].done() and _runs(pod, gang.container(pod))
                if _started(pod, gang.container(pod)) and (uid not in reading or broken_off):
                    reading[uid] = asyncio.create_task(gang.copy(pod, emit, follow=True))
            busy = False
            for task in reading.values():
                if task.done():
                    task.result()
                else:
                    busy = True
            if not busy and (body is None or _nothing_follows(body)):
                return
            if not busy and body is not None:
                notified = _notify_once(condition(body, "Ready").get("message") or "", notified)
            await asyncio.sleep(POLL_SECONDS)
    finally:
        for task in reading.values():
            task.cancel()


def _nothing_follows(body: Object) -> bool:
    """Whether no gang will start by itself; a newer spec may wait for its user."""
    finished = condition(body, "Finished")
    return finished.get("status") == "True" or finished.get("reason") == "UpdateWaiting"


def _notify_once(message: str, notified: str) -> str:
    if message and message != notified:
        print_line(message, stderr=True)
    return message


def _nothing(body: Object, wanted: Wanted) -> str:
    of = f" of the {wanted.stage}" if wanted.stage else ""
    of += "" if wanted.rank is None else f" with rank {wanted.rank}"
    why = condition(body, "Ready").get("message") or "the operator has not processed the model yet"
    return f"{wanted.model} has no pod{of}: {why}"


def _labels(pod: Object) -> dict[str, Any]:
    labels: dict[str, Any] = pod["metadata"].get("labels") or {}
    return labels


def _attempt(pod: Object) -> int:
    text = str(_labels(pod).get(names.ATTEMPT_LABEL, ""))
    return int(text) if text.isdigit() else 0


def _state(pod: Object, container: str) -> dict[str, Any]:
    statuses: Sequence[dict[str, Any]] = (pod.get("status") or {}).get("containerStatuses") or []
    return next((one.get("state") or {} for one in statuses if one["name"] == container), {})


def _started(pod: Object, container: str) -> bool:
    return any(word in _state(pod, container) for word in ("running", "terminated"))


def _runs(pod: Object, container: str) -> bool:
    return "running" in _state(pod, container)
