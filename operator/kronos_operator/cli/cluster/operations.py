"""Suspend, resume, retrain and cancel in a cluster: one change of the object, which the operator acts on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kronos_operator import names
from kronos_operator.cli.cluster.session import Session, connected
from kronos_operator.cli.failure import Failure
from kronos_operator.cli.target import Target
from kronos_operator.cli.terminal import say
from kronos_trainer.config import ExitCode

FIELD_MANAGER = "kronos"


def suspend(target: Target, name: str) -> None:
    """Set spec.suspend."""
    with connected(target) as session:
        before = bool(session.model(name)["spec"].get("suspend"))
        _patch(session, name, {"spec": {"suspend": True}})
    say(f"{name}: is suspended already" if before else f"{name}: suspended; what is running saves and stops")


def resume(target: Target, name: str) -> None:
    """Clear spec.suspend."""
    with connected(target) as session:
        before = bool(session.model(name)["spec"].get("suspend"))
        _patch(session, name, {"spec": {"suspend": False}})
    say(f"{name}: resumed from its last checkpoint" if before else f"{name}: was not suspended")


def retrain(target: Target, name: str) -> None:
    """Ask for a new run of every stage."""
    with connected(target) as session:
        body = session.model(name)
        _annotate(session, name, names.RETRAIN_ANNOTATION)
    if body["spec"].get("suspend"):
        say(f"{name}: retraining requested; it is suspended and waits for `kronos resume`")
    elif _in_progress(body):
        say(f"{name}: retraining requested; updatePolicy says what becomes of the run in progress")
    else:
        say(f"{name}: retraining requested")


def cancel(target: Target, name: str) -> None:
    """Ask for the end of the run in progress. Raises Failure (66) if there is none."""
    with connected(target) as session:
        if not _in_progress(session.model(name)):
            raise Failure(f"{name}: no run is in progress", ExitCode.INPUT_MISSING)
        _annotate(session, name, names.CANCEL_ANNOTATION)
    say(f"{name}: cancelling; checkpoints stay, and `kronos retrain` starts a new run")


def _in_progress(body: dict[str, Any]) -> bool:
    run = (body.get("status") or {}).get("run") or {}
    return bool(run) and not run.get("outcome")


def _annotate(session: Session, name: str, annotation: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    _patch(session, name, {"metadata": {"annotations": {annotation: now}}})


def _patch(session: Session, name: str, change: dict[str, Any]) -> None:
    from kronos_operator.kube.kinds import KRONOSMODEL

    session.run(session.cluster.patch(KRONOSMODEL, session.namespace, name, change, manager=FIELD_MANAGER))
