"""What a model of a cluster has published, and the pod that reads it from the model's storage claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kronos_operator import names
from kronos_operator.api import KronosModel
from kronos_operator.cli.cluster.command_pod import CommandPod, Mount, Size, require_claim, trainer_image
from kronos_operator.cli.cluster.session import Session, parsed
from kronos_operator.cli.cluster.status import condition
from kronos_operator.cli.failure import Failure
from kronos_operator.manifests.attempt import place_in_pod
from kronos_trainer.config import ExitCode, StageName


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published run. `digests` has the SHA-256 of a stage's weights, None where the operator missed it."""

    model: KronosModel
    run: str
    digests: Mapping[StageName, str | None]
    evaluated: bool  # whether there is a verdict on it
    root: str  # of all results, as a pod mounts it
    claim: str

    def pod(self, session: Session, *, command: str, image: str | None, size: Size, seconds: int) -> CommandPod:
        """A pod that reads the results, where the model's own pods run and under their ids."""
        require_claim(session, self.claim)
        return CommandPod(
            command=command,
            image=trainer_image(session, image, self.model),
            mount=Mount(claim=self.claim, place=names.STORAGE_MOUNT, read_only=True),
            size=size,
            seconds=seconds,
            template=self.model.spec.pod_template,
        )


def published(session: Session, name: str) -> Published:
    """What `status` names. Raises Failure: 66 if that is nothing yet, 64 if it lies in an object store."""
    body = session.model(name)
    model = parsed(body)
    artifacts = None if model.status is None else model.status.artifacts
    if artifacts is None or artifacts.run is None:
        why = condition(body, "Ready").get("message") or "the operator has not processed it yet"
        raise Failure(f"{name} has published nothing yet: {why}", ExitCode.INPUT_MISSING)
    storage = model.spec.storage
    if storage is None or storage.claim is None:
        where = storage.uri if storage else "no claim"
        raise Failure(f"{name} keeps its results in {where}: copy them with that store's own tool", ExitCode.CONFIG)
    evaluation = None if model.status is None else model.status.evaluation
    found = {stage: artifacts.of(stage) for stage in StageName.with_weights()}
    return Published(
        model=model,
        run=artifacts.run,
        digests={stage: None if artifact is None else artifact.digest for stage, artifact in found.items()},
        evaluated=evaluation is not None and evaluation.run == artifacts.run,
        root=place_in_pod(storage, names.STORAGE_MOUNT),
        claim=storage.claim.name,
    )
