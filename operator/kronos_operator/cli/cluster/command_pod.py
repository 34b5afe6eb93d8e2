"""A pod for the length of one command: made, waited for, used, and deleted whatever happens, also on Ctrl-C."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from kronos_operator import names
from kronos_operator.cli.cluster.session import Session
from kronos_operator.cli.failure import Failure
from kronos_operator.cli.options import TRAINER_IMAGE_ENV
from kronos_operator.cli.terminal import print_line
from kronos_operator.durations import duration
from kronos_operator.manifests.command_pod import CONTAINER, CommandPod, Mount, Size, command_pod
from kronos_trainer.config import ExitCode

if TYPE_CHECKING:
    from kronos_operator.api import KronosModel
    from kronos_operator.kube import Cluster, Object

START_SECONDS = 900  # an image of several GB may have to be pulled
POLL_SECONDS = 0.5
_SILENT_SECONDS = 15  # after which events are asked why a container does not start
_HOPELESS = frozenset(
    {"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError"}
)

__all__ = ["CONTAINER", "CommandPod", "Mount", "Size", "require_claim", "running", "trainer_image"]


@asynccontextmanager
async def running(cluster: Cluster, namespace: str, wanted: CommandPod) -> AsyncIterator[str]:
    """Name of such a pod while it runs. Raises Failure (78) with the reason if it does not start."""
    from kronos_operator.kube.kinds import POD

    name = f"kronos-{wanted.command}-{secrets.token_hex(4)}"
    body = command_pod(wanted, name=name, namespace=namespace)
    with _ended_by_signals():
        try:
            await cluster.create(POD, body)
            await _started(cluster, namespace, name)
            yield name
        finally:
            await _deleted(cluster, namespace, name, wanted.seconds)


def require_claim(session: Session, name: str) -> None:
    """Raises Failure (66) naming those that are there if there is no such claim."""
    from kronos_operator.kube.kinds import PVC

    if session.run(session.cluster.get(PVC, session.namespace, name)) is None:
        found, _ = session.run(session.cluster.list(PVC, session.namespace))
        known = ", ".join(sorted(body["metadata"]["name"] for body in found)) or "none"
        raise Failure(
            f"no PersistentVolumeClaim {name} in namespace {session.namespace} (found: {known}); create it first (an "
            "example is manifests/examples/claims.yaml), or name another --namespace",
            ExitCode.INPUT_MISSING,
        )


def trainer_image(session: Session, named: str | None, model: KronosModel | None = None) -> str:
    """The image that is named, else the model's, else the one that the operator's chart has published.

    Raises Failure (78) where none is known.
    """
    from kronos_operator.kube import NotFound, Rejected
    from kronos_operator.kube.kinds import CONFIGMAP

    image = named or (model and model.spec.image)
    if image:
        return image
    place = f"ConfigMap {names.CLIENT_CONFIG_MAP} of namespace {names.CLIENT_NAMESPACE}"
    try:
        found = session.run(session.cluster.get(CONFIGMAP, names.CLIENT_NAMESPACE, names.CLIENT_CONFIG_MAP))
        why = "does not exist"
    except (NotFound, Rejected) as error:
        found, why = None, f"cannot be read ({error.message})"
    published = ((found or {}).get("data") or {}).get(names.CLIENT_IMAGE_KEY)
    if not published:
        raise Failure(
            f"no trainer image is known: name it with --image or {TRAINER_IMAGE_ENV} ({place}, where the operator's "
            f"chart publishes it, {why})",
            ExitCode.ENVIRONMENT,
        )
    return str(published)


async def _started(cluster: Cluster, namespace: str, name: str) -> None:
    from kronos_operator.kube.kinds import POD

    begun = time.monotonic()
    shown = ""
    while True:
        pod = await cluster.get(POD, namespace, name)
        if pod is None:
            raise Failure(f"pod {name} was deleted by another client", ExitCode.STOPPED)
        status = pod.get("status") or {}
        statuses: list[dict[str, Any]] = status.get("containerStatuses") or [{}]
        container = statuses[0].get("state") or {}
        if "running" in container:
            return
        story = _story(status, container)
        if status.get("phase") in ("Failed", "Succeeded"):
            raise Failure(f"pod {name} ended before it could be used: {story}", ExitCode.ENVIRONMENT)
        if (container.get("waiting") or {}).get("reason") in _HOPELESS:
            raise Failure(f"pod {name} cannot start: {story}", ExitCode.ENVIRONMENT)
        waited = time.monotonic() - begun
        if waited > _SILENT_SECONDS:
            story = await _warning(cluster, namespace, pod) or story
        if waited > START_SECONDS:
            raise Failure(f"pod {name} did not start within {duration(START_SECONDS)}: {story}", ExitCode.ENVIRONMENT)
        if story != shown and waited > 2:
            print_line(f"waiting for pod {name}: {story}", stderr=True)
            shown = story
        await asyncio.sleep(POLL_SECONDS)


def _story(status: dict[str, Any], container: dict[str, Any]) -> str:
    """Why a pod is where it is, as the scheduler or the kubelet reports it."""
    unscheduled = (
        one.get("message") or one.get("reason")
        for one in status.get("conditions") or []
        if one["type"] == "PodScheduled" and one["status"] != "True"
    )
    state = container.get("waiting") or container.get("terminated") or {}
    words = [state.get("reason"), state.get("message")] if state else [status.get("reason"), status.get("message")]
    return next(unscheduled, None) or ": ".join(filter(None, words)) or "not scheduled yet"


async def _warning(cluster: Cluster, namespace: str, pod: Object) -> str:
    """The newest warning about a pod, such as a volume that cannot be attached; empty where none can be read."""
    from kronos_operator.kube import ClusterError
    from kronos_operator.kube.kinds import CORE_EVENT

    try:
        found, _ = await cluster.list(CORE_EVENT, namespace, fields=f"involvedObject.uid={pod['metadata']['uid']}")
    except ClusterError:
        return ""
    warnings = [one for one in found if one.get("type") == "Warning"]
    newest = max(warnings, key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime")), default={})
    return f"{newest['reason']}: {newest.get('message', '')}" if newest else ""


async def _deleted(cluster: Cluster, namespace: str, name: str, seconds: int) -> None:
    from kronos_operator.kube import ClusterError
    from kronos_operator.kube.kinds import POD

    try:
        await cluster.delete(POD, namespace, name)
    except ClusterError as error:
        print_line(
            f"pod {name} could not be deleted ({error.message}): kubectl delete pod {name} -n {namespace}; otherwise "
            f"it ends after {duration(seconds)}",
            stderr=True,
        )


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Makes a closed terminal and SIGTERM end the task as Ctrl-C does, so that it can clean up."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    received: list[signal.Signals] = []
    assert task is not None

    def end(one: signal.Signals) -> None:
        received.append(one)
        task.cancel()

    signals = (signal.SIGTERM, signal.SIGHUP)
    for one in signals:
        loop.add_signal_handler(one, end, one)
    try:
        yield
    except asyncio.CancelledError:
        if not received:
            raise
        raise Failure(f"ended by {received[0].name}", 128 + received[0]) from None
    finally:
        for one in signals:
            loop.remove_signal_handler(one)
