"""Commands that steer a model in a cluster: each is one change of the object, which the operator acts on."""

from __future__ import annotations

from typing import Any

from kronos_operator import names
from kronos_operator.cli.cluster.session import Session, connected
from kronos_operator.cli.failure import Failure
from kronos_operator.cli.target import Target
from kronos_operator.cli.terminal import print_line
from kronos_trainer.config import ExitCode, now_text

FIELD_MANAGER = "kronos"


def suspend(target: Target, name: str) -> None:
    """Set spec.suspend."""
    changed = _set_suspend(target, name, True)
    print_line(f"{name}: suspended; a running training saves and stops" if changed else f"{name}: is already suspended")


def resume(target: Target, name: str) -> None:
    """Clear spec.suspend."""
    changed = _set_suspend(target, name, False)
    print_line(f"{name}: resumed from its last checkpoint" if changed else f"{name}: was not suspended")


def retrain(target: Target, name: str) -> None:
    """Ask for a new run of every stage."""
    with connected(target) as session:
        body = session.model(name)
        _annotate(session, name, names.RETRAIN_ANNOTATION)
    if body["spec"].get("suspend"):
        print_line(f"{name}: retraining requested; it is suspended and waits for `kronos resume`")
    elif _in_progress(body):
        print_line(f"{name}: retraining requested; updatePolicy decides what happens to the run in progress")
    else:
        print_line(f"{name}: retraining requested")


def cancel(target: Target, name: str) -> None:
    """Ask for the end of the run in progress. Raises Failure (66) if there is none."""
    with connected(target) as session:
        if not _in_progress(session.model(name)):
            raise Failure(f"{name}: no run is in progress", ExitCode.INPUT_MISSING)
        _annotate(session, name, names.CANCEL_ANNOTATION)
    print_line(f"{name}: cancelling; checkpoints stay, and `kronos retrain` starts a new run")


def promote(target: Target, name: str, run: str | None) -> None:
    """Ask for the publication of a run; None: of the candidate. The time makes it a new request."""
    run = run or "candidate"
    with connected(target) as session:
        session.model(name)
        _annotate(session, name, names.PROMOTE_ANNOTATION, f"{run} {now_text()}")
    print_line(f"{name}: promotion of {run} requested; `kronos status {name} --cluster` shows what becomes of it")


def rollback(target: Target, name: str) -> None:
    """Ask for the publication of the run that was published before."""
    with connected(target) as session:
        session.model(name)
        _annotate(session, name, names.ROLLBACK_ANNOTATION)
    print_line(f"{name}: rollback requested; `kronos status {name} --cluster` shows what becomes of it")


OPERATIONS = {"suspend": suspend, "resume": resume, "retrain": retrain, "cancel": cancel, "rollback": rollback}


def _set_suspend(target: Target, name: str, value: bool) -> bool:
    """Whether that changes the object."""
    with connected(target) as session:
        before = bool(session.model(name)["spec"].get("suspend"))
        _patch(session, name, {"spec": {"suspend": value}})
    return before is not value


def _in_progress(body: dict[str, Any]) -> bool:
    run = (body.get("status") or {}).get("run") or {}
    return bool(run) and not run.get("outcome")


def _annotate(session: Session, name: str, annotation: str, text: str | None = None) -> None:
    _patch(session, name, {"metadata": {"annotations": {annotation: text or now_text()}}})


def _patch(session: Session, name: str, change: dict[str, Any]) -> None:
    from kronos_operator.kube.kinds import KRONOSMODEL

    session.run(session.cluster.patch(KRONOSMODEL, session.namespace, name, change, manager=FIELD_MANAGER))
