"""What changes the cluster: freezing a run, starting and stopping gangs. Each may be repeated."""

from __future__ import annotations

from collections.abc import Sequence

from kronos_operator import names
from kronos_operator.api import KronosModel, Run
from kronos_operator.backends import BACKENDS, backend_of
from kronos_operator.hashing import stage_hashes, template_hash
from kronos_operator.kube import Cluster, ClusterError, Created, NotFound, Object, Rejected
from kronos_operator.kube.kinds import CONFIGMAP, SERVICE
from kronos_operator.manifests import AttemptTemplate, frozen, run_config_map
from kronos_operator.plan import Action, Obstacle, StartAttempt, StopAttempt
from kronos_operator.policy import violations
from kronos_operator.reconcile.gangs import ObservedGang
from kronos_operator.settings import Settings


class Refused(Exception):
    """The API server will never accept a child, until the spec changes."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.obstacle = Obstacle(reason=reason, message=message)


class Postponed(ClusterError):
    """A child cannot be created now: a quota, a right or a kind is missing, or its name is taken."""

    @property
    def obstacle(self) -> Obstacle:
        """Why."""
        return Obstacle(reason=self.reason, message=self.message)


class Actuator:
    """Changes the cluster as a plan asks for."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings

    async def freeze(self, model: KronosModel, run: str) -> Object:
        """Keeps what the run trains, in the ConfigMap that is returned.

        One that an ended run left is replaced: the run begins anew, from today's spec. Raises Refused or Postponed
        where it cannot be kept.
        """
        config_map = run_config_map(model, _uid(model), run, self._settings.default_image)
        await self._put(config_map)
        return config_map

    async def act(
        self,
        model: KronosModel,
        actions: Sequence[Action],
        gangs: Sequence[ObservedGang],
        kept: Object | None = None,
    ) -> None:
        """Carries out a plan's actions on the gangs that it was decided on.

        `kept` holds a run that has just begun. Raises Refused or Postponed where a child cannot be made.
        """
        for action in actions:
            if isinstance(action, StartAttempt):
                await self._start(model, action, kept)
            else:
                await self._stop(action, gangs)

    async def find_workload(self, model: KronosModel, run: Run) -> Object | None:
        """The workload of the run's current attempt as the API server has it."""
        stage = run.next_stage
        if stage is None or not run.template_hash:
            return None  # nothing was started yet
        name = names.child_name(model.metadata.name, stage.stage, stage.hash, run.attempt)
        backends = [BACKENDS[model.spec.backend]]
        if run.template_hash != template_hash(model.spec):  # the backend may be what has changed since
            backends += [backend for backend in BACKENDS.values() if backend is not backends[0]]
        for backend in backends:
            found = await self._cluster.get(backend.kind, model.metadata.namespace, name)
            if found is not None:
                return found
        return None

    async def restore(self, model: KronosModel, start: StartAttempt, gang: ObservedGang) -> list[str]:
        """Makes again what the pods of a started attempt need and somebody has deleted. Returns what that was.

        Its ConfigMap is mounted when a pod starts, and by its Service the pods find each other: without them they would
        wait for as long as they may. Raises Refused or Postponed where they cannot be made.
        """
        assert gang.workload is not None
        metadata = gang.workload["metadata"]
        kinds = backend_of(gang.workload).needs(gang.workload)
        missing = {
            kind.kind
            for kind in kinds
            if await self._cluster.get(kind, metadata["namespace"], metadata["name"]) is None
        }
        if missing:
            for body in await self._build(model, start):
                if body["kind"] in missing:
                    await self.create(body)
        return [f"{kind} {metadata['name']}" for kind in sorted(missing)]

    async def _start(self, model: KronosModel, start: StartAttempt, kept: Object | None) -> None:
        for body in await self._build(model, start, kept):
            if body["kind"] == CONFIGMAP.kind:
                await self._put(body)
            else:
                await self.create(body)

    async def _build(self, model: KronosModel, start: StartAttempt, kept: Object | None = None) -> list[Object]:
        """The objects of the attempt. Raises Refused if what they are built from is lost, or no longer allowed."""
        name = names.run_config_map_name(model.metadata.name, start.run)
        kept = kept or await self._cluster.get(CONFIGMAP, model.metadata.namespace, name)
        if kept is None and stage_hashes(model.spec) == start.stage_hashes:
            kept = await self.freeze(model, start.run)
        if kept is None:
            message = f"ConfigMap {name}, which holds what the run trains, is gone: ask for another run"
            raise Refused(message, reason="RunConfigLost")
        built_from = frozen(kept, model)
        denied = self._denied(built_from)
        if denied:
            # The policy may have changed since, or somebody has made another ConfigMap of that name.
            raise Refused(f"what the run was begun with is no longer allowed: {denied}", reason="PolicyDenied")
        attempt = AttemptTemplate(
            model=built_from,
            uid=_uid(model),
            start=start,
            image=self._settings.default_image,
            default_queue=self._settings.policy.default_queue,
        )
        return BACKENDS[built_from.spec.backend].build(attempt)

    def _denied(self, model: KronosModel) -> str:
        """What the policy denies of a model with its frozen image; an earlier default image was the administrator's."""
        spec, default = model.spec, self._settings.default_image
        if spec.image is not None and _repository(spec.image) == _repository(default):
            spec = spec.model_copy(update={"image": None})
        return "; ".join(violations(spec, self._settings.policy))

    async def _put(self, config_map: Object) -> None:
        """Creates an immutable ConfigMap, or replaces one that says something else.

        What an attempt that got no further has left must not be read by the one that starts now.
        """
        if await self.create(config_map) is Created.DONE:
            return
        there = await self._cluster.get(CONFIGMAP, *_place(config_map))
        if there is not None and there.get("data") != config_map["data"]:
            await self._cluster.delete_exactly(CONFIGMAP, there)
            await self.create(config_map)

    async def create(self, body: Object) -> Created:
        """Creates a child, unless it is there. Raises Refused or Postponed where it cannot be made."""
        backend = next((one for one in BACKENDS.values() if one.kind.kind == body["kind"]), None)
        kind = (
            next(one for one in (CONFIGMAP, SERVICE) if one.kind == body["kind"]) if backend is None else backend.kind
        )
        try:
            created = await self._cluster.create(kind, body)
        except Rejected as error:
            if error.final:
                raise Refused(error.message, reason="ChildRejected") from error
            reason = "QuotaExceeded" if "exceeded quota" in error.message else "ChildForbidden"
            raise Postponed(error.message, reason=reason) from error
        except NotFound as error:
            if backend is None or not backend.missing:
                raise
            raise Postponed(backend.missing, reason="BackendMissing") from error
        if created is Created.EXISTS_OTHER:
            # It may be on its way out.
            message = f"{body['kind']} {body['metadata']['name']} exists and does not belong to this model: delete it"
            raise Postponed(message, reason="NameTaken")
        return created

    async def _stop(self, stop: StopAttempt, gangs: Sequence[ObservedGang]) -> None:
        # By name: to find it by its labels, the API server would read every Job of the namespace.
        for gang in gangs:
            if gang.workload is not None and (gang.run, gang.attempt) == (stop.run, stop.attempt):
                await self._cluster.delete_exactly(backend_of(gang.workload).kind, gang.workload, "Foreground")


def _repository(image: str) -> str:
    """The image without its tag or digest."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def _place(body: Object) -> tuple[str, str]:
    return body["metadata"]["namespace"], body["metadata"]["name"]


def _uid(model: KronosModel) -> str:
    assert model.metadata.uid is not None  # it comes from the API server
    return model.metadata.uid
