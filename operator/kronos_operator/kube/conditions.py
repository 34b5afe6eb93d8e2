"""Conditions in the status of an object, as every kind has them."""

from __future__ import annotations

from kronos_operator.kube.kinds import Object


def condition(body: Object, kind: str) -> Object:
    """The condition of this type, True or not; empty if there is none."""
    conditions = (body.get("status") or {}).get("conditions") or []
    return next((item for item in conditions if item.get("type") == kind), {})


def true_condition(body: Object | None, *kinds: str) -> Object | None:
    """The first of these conditions that is True."""
    found = (condition(body or {}, kind) for kind in kinds)
    return next((item for item in found if item.get("status") == "True"), None)
