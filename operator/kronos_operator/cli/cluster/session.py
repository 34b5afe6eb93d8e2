"""A connection to the user's cluster for the length of one command. Opened by every command that means a cluster."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from kronos_operator.cli.failure import Failure
from kronos_operator.cli.target import Target
from kronos_trainer.config import ExitCode

if TYPE_CHECKING:
    from kronos_operator.api import KronosModel
    from kronos_operator.kube import Cluster, ClusterError, Object

OPERATOR_INSTALL = "pip install 'kronos-operator[operator]'"

T = TypeVar("T")


class Session:
    """The cluster, the namespace that the command means, and the event loop in which requests run."""

    def __init__(self, runner: asyncio.Runner, cluster: Cluster, namespace: str) -> None:
        self._runner = runner
        self.cluster = cluster
        self.namespace = namespace

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of requests to the cluster."""
        return self._runner.run(work)

    def model(self, name: str) -> Object:
        """The KronosModel. Raises Failure (66) naming those that are there."""
        from kronos_operator.kube.kinds import KRONOSMODEL

        found = self.run(self.cluster.get(KRONOSMODEL, self.namespace, name))
        if found is None:
            known = ", ".join(body["metadata"]["name"] for body in self.models()) or "none"
            raise Failure(
                f"no KronosModel {name} in namespace {self.namespace} of {self.cluster.server} (found: {known})",
                ExitCode.INPUT_MISSING,
            )
        return found

    def models(self) -> list[Object]:
        """Every KronosModel of the namespace, by name."""
        from kronos_operator.kube.kinds import KRONOSMODEL

        found, _ = self.run(self.cluster.list(KRONOSMODEL, self.namespace))
        return sorted(found, key=lambda body: str(body["metadata"]["name"]))


@contextmanager
def connected(target: Target) -> Iterator[Session]:
    """Connects, and disconnects afterwards. What the cluster refuses becomes a Failure, also within the block."""
    if importlib.util.find_spec("kubernetes") is None:
        raise Failure(f"cluster commands need the operator extra: {OPERATOR_INSTALL}", ExitCode.ENVIRONMENT)
    from kronos_operator.kube import Cluster, ClusterError

    try:
        with asyncio.Runner() as runner:
            cluster = runner.run(Cluster.connect(kubeconfig=target.kubeconfig, context=target.context))
            try:
                yield Session(runner, cluster, target.namespace or cluster.namespace)
            finally:
                runner.run(cluster.close())
    except ClusterError as error:
        raise failure_of(error) from error


def parsed(body: Object) -> KronosModel:
    """The model in an object of the server's. Raises Failure (64) if it is of a version that cannot be read."""
    from pydantic import ValidationError

    from kronos_operator.api import KronosModel

    try:
        return KronosModel.from_server(body)
    except ValidationError as error:
        name = body["metadata"]["name"]
        raise Failure(
            f"{name}: this version of kronos cannot read the object that the server returned: {error}", ExitCode.CONFIG
        ) from None


def failure_of(error: ClusterError) -> Failure:
    """The error as a Failure: 64 where the request is wrong, 66 for what is absent, else 78."""
    from kronos_operator.kube import Conflict, NotFound, Rejected

    match error:
        case NotFound():
            return Failure(error.message, ExitCode.INPUT_MISSING)
        case Conflict() | Rejected(final=True):
            return Failure(error.message, ExitCode.CONFIG)
        case _:
            return Failure(error.message, ExitCode.ENVIRONMENT)
