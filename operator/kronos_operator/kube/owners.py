"""Which object controls another."""

from __future__ import annotations

from kronos_operator.kube.kinds import Object


def controller_of(body: Object) -> Object:
    """The reference to the object's controller; empty if it has none."""
    owners = body["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), {})
