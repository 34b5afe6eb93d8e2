"""What is refused before anything is planned: by the cluster's nature, or by its administrator. Pure."""

from __future__ import annotations

from kronos_operator.api import KronosModel
from kronos_operator.manifests import local_paths
from kronos_operator.plan import Obstacle
from kronos_operator.policy import Policy, violations


def refusal(model: KronosModel, policy: Policy, default_image: str) -> Obstacle | None:
    """Why nothing may be started for this model, None if it may."""
    local = local_paths(model.spec)
    if local:
        message = (
            f"{' and '.join(local)} cannot be reached from a pod: name a PersistentVolumeClaim with `claim`, or a `uri`"
        )
        return Obstacle(reason="LocalPathInCluster", message=message)
    denied = violations(model.spec, policy)
    if denied:
        return Obstacle(reason="PolicyDenied", message="; ".join(denied))
    if model.spec.image is None and not default_image:
        return Obstacle(reason="ImageMissing", message="spec.image is absent and the operator has no default image")
    return None
