"""`kronos submit` and `kronos diff` in a cluster: files become objects by server-side apply, or only as a rehearsal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kronos_operator.cli.changes import Change, StageEffect, changes
from kronos_operator.cli.cluster.operations import FIELD_MANAGER
from kronos_operator.cli.cluster.session import Session, connected, failure_of, parsed
from kronos_operator.cli.failure import Failure
from kronos_operator.cli.target import Target
from kronos_trainer.config import ExitCode

if TYPE_CHECKING:
    from kronos_operator.api import Run
    from kronos_operator.kube import Object
    from kronos_operator.loading import Loaded
    from kronos_operator.plan import StagePreview


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What an apply did, or in a rehearsal would do."""

    name: str
    namespace: str
    created: bool
    changes: tuple[Change, ...]
    effects: tuple[StageEffect, ...]
    remark: str  # when the change takes effect, where that is not at once


def apply_each(
    loaded: Sequence[Loaded], target: Target, *, dry_run: bool, force: bool = False
) -> Iterator[Applied | Failure]:
    """Applies the models one after the other: one that is refused does not keep the others out.

    Raises InvalidModel before anything is sent if a model cannot be trained in a cluster.
    """
    _require_reachable(loaded)
    with connected(target) as session:
        from kronos_operator.kube import ClusterError

        for one in loaded:
            try:
                yield _apply(one, session, target, dry_run=dry_run, force=force)
            except ClusterError as error:
                failure = failure_of(error)
                yield Failure(f"{one.model.metadata.name}: {failure}", failure.exit_code)
            except Failure as error:
                yield error


def _apply(one: Loaded, session: Session, target: Target, *, dry_run: bool, force: bool) -> Applied:
    from kronos_operator.kube import Conflict
    from kronos_operator.kube.kinds import KRONOSMODEL

    name, namespace = one.model.metadata.name, _namespace(one, session, target)
    before = session.run(session.cluster.get(KRONOSMODEL, namespace, name))
    try:
        after = session.run(
            session.cluster.apply(
                KRONOSMODEL, body_of(one, namespace), manager=FIELD_MANAGER, force=force, dry_run=dry_run
            )
        )
    except Conflict as error:
        way_out = "--force-conflicts takes ownership of these fields"
        raise Failure(f"{name}: {error.message}; {way_out}", ExitCode.CONFIG) from error
    effects, remark = _effects(before, after)
    return Applied(
        name=name,
        namespace=namespace,
        created=before is None,
        changes=tuple(changes(before, after)),
        effects=effects,
        remark=remark,
    )


def body_of(one: Loaded, namespace: str) -> Object:
    """The object to apply: what the file and the overrides set, without defaults, which are the server's to fill in."""
    metadata = one.model.metadata
    given: dict[str, Any] = {"name": metadata.name, "namespace": namespace}
    given |= {key: value for key in ("labels", "annotations") if (value := getattr(metadata, key))}
    return {
        "apiVersion": one.model.api_version,
        "kind": one.model.kind,
        "metadata": given,
        "spec": one.model.spec.model_dump(mode="json", by_alias=True, exclude_unset=True),
    }


def _namespace(one: Loaded, session: Session, target: Target) -> str:
    metadata = one.model.metadata
    if "namespace" not in metadata.model_fields_set:
        return session.namespace
    if target.namespace not in (None, metadata.namespace):
        message = f"{one.file}: metadata.namespace is {metadata.namespace}, and --namespace {target.namespace}"
        raise Failure(message, ExitCode.CONFIG)
    return metadata.namespace


def _require_reachable(loaded: Sequence[Loaded]) -> None:
    from kronos_operator.loading import InvalidModel, Problem
    from kronos_operator.manifests import local_paths

    problems = []
    for one in loaded:
        for field in local_paths(one.model.spec):
            origin = one.origins[field]
            message = "a pod cannot reach a local path: name a claim or a uri"
            problems.append(Problem(origin.where, None, f"spec.{field}", message))
        if one.model.spec.storage is None:
            message = "is required in a cluster: name the PersistentVolumeClaim for checkpoints and results"
            problems.append(Problem(str(one.file), None, "spec.storage", message))
    if problems:
        raise InvalidModel(problems)


def _effects(before: Object | None, after: Object) -> tuple[tuple[StageEffect, ...], str]:
    """What the operator will make of the object, decided as it decides."""
    from kronos_operator.api import Status
    from kronos_operator.plan import Request, begin, preview

    model = parsed(after)
    status = model.status or Status()
    live = status.run
    trained = status.tracking.trained if live is None else live.trained_after(status.tracking.trained)
    following = begin(Request(spec=model.spec), live, trained, status.published_run, time.time())
    effects = tuple(_effect(one, following, live) for one in preview(following, trained))
    changed = before is not None and live is not None and following.stage_hashes != live.stage_hashes
    return effects, _remark(model, live, changed=changed)


def _effect(one: StagePreview, following: Run, live: Run | None) -> StageEffect:
    from kronos_operator.plan import StageAction, done_by

    short = one.hash[:8]
    trains = one.stage.has_weights
    action, reason = "train" if trains else "score", f"hash {short}, not {'trained' if trains else 'scored'} yet"
    old = None if live is None else live.stage_hashes.get(one.stage)
    if one.action is StageAction.SKIP:
        action, reason = "skip", one.reason
    elif one.action not in (StageAction.TRAIN, StageAction.SCORE):
        action, reason = "keep", f"{done_by(one.stage, one.run)} (hash {short})"
    elif live is not None and old == one.hash and live.outcome is None:
        action, reason = "go on", f"part of run {live.id}, in progress (hash {short})"
    elif live is not None and following.stage_hashes == live.stage_hashes:
        action = "nothing"
        reason = f"run {live.id} {str(live.outcome).lower()} with hash {short}; `kronos retrain` starts another"
    elif old not in (None, one.hash):
        reason = f"hash {old[:8]} → {short}"
    return StageEffect(stage=one.stage, action=action, reason=reason)


def _remark(model: Any, live: Run | None, *, changed: bool) -> str:
    from kronos_operator.api import UpdatePolicy

    policy = model.spec.update_policy
    if model.spec.suspend:
        return "spec.suspend is true: nothing starts until `kronos resume`"
    if not changed:
        return ""
    if policy is UpdatePolicy.MANUAL:
        return "updatePolicy Manual: the change waits for `kronos retrain`"
    if live is None or live.outcome is not None:
        return ""
    if policy is UpdatePolicy.CANCEL:
        return f"updatePolicy Cancel: run {live.id}, in progress, will be stopped"
    if not live.has_progress:
        return f"run {live.id} has not trained anything yet and will be replaced"
    return f"updatePolicy Finish: run {live.id}, in progress, finishes first"
