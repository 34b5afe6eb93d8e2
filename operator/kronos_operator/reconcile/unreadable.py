"""The status of an object that the CRD lets pass and the KronosModel classes do not. Pure."""

from __future__ import annotations

from pydantic import ValidationError

from kronos_operator.api import Phase
from kronos_operator.api.values import rfc3339
from kronos_operator.kube import Object

REASON = "SpecInvalid"
_CONDITIONS = (("Ready", "False"), ("Stalled", "True"), ("Progressing", "False"))


def unreadable_status(body: Object, message: str, now: float) -> Object:
    """The object's status with the complaint in it. What it remembers of a run stays as it is."""
    status = body.get("status") or {}
    generation = body["metadata"].get("generation", 0)
    conditions = {item["type"]: item for item in status.get("conditions") or []}
    for kind, value in _CONDITIONS:
        before = conditions.get(kind)
        same = before is not None and before["status"] == value
        since = before["lastTransitionTime"] if before is not None and same else rfc3339(now)
        conditions[kind] = {
            "type": kind,
            "status": value,
            "reason": REASON,
            "message": message,
            "observedGeneration": generation,
            "lastTransitionTime": since,
        }
    return status | {
        "conditions": list(conditions.values()),
        "observedGeneration": generation,
        "phase": Phase.FAILED.value,
    }


def complaint(error: ValueError) -> str:
    """What is wrong, field by field."""
    if not isinstance(error, ValidationError):
        return str(error)[:4096]
    faults = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    return "; ".join(faults)[:4096]
