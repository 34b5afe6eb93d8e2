"""What places a model needs, and what it has of them: the claim that `turns` puts in order. Pure."""

from __future__ import annotations

import hashlib
import json

from kronos_operator.api import KronosModel, Run
from kronos_operator.plan import Attempt, Obstacle
from kronos_operator.reconcile.turns import Claim, Kind, Standing

# What decides on which nodes a pod fits; the rest of the template may differ between pods that compete.
_PLACEMENT = ("node_selector", "tolerations", "affinity", "scheduler_name", "runtime_class_name", "priority_class_name")


def claim_of(model: KronosModel, run: Run, attempt: Attempt | None, waiting: Obstacle | None) -> Claim:
    """The model's claim; `attempt` is its current one while any of it is left, `waiting` why that does not run."""
    namespace, shape = model.metadata.namespace, _shape(model, run)
    standing = Standing.WAITS
    if attempt is not None:
        placed = run.begun or attempt.unplaced_since is None
        standing = Standing.HOLDS if placed else Standing.TRIES
    kinds: dict[str, Kind] = {"QuotaExceeded": ("quota", namespace), "Unschedulable": ("nodes", shape)}
    lacks = kinds.get(waiting.reason) if waiting is not None and standing is Standing.TRIES else None
    return Claim(
        priority=model.spec.priority,
        since=run.started_at or 0.0,
        namespace=namespace,
        shape=shape,
        standing=standing,
        lacks=lacks,
        gave_back=run.restarts.incomplete > 0,
    )


def _shape(model: KronosModel, run: Run) -> str:
    spec, stage = model.spec, run.next_stage
    resources = spec.resources if stage is None else spec.resources.of_stage(stage.stage)
    pods = spec.pod_template.model_dump(mode="json", include=set(_PLACEMENT), exclude_defaults=True)
    size = resources.model_dump(mode="json", exclude={"nodes", "processes_per_node"}, exclude_defaults=True)
    return hashlib.sha256(json.dumps([pods, size], sort_keys=True).encode()).hexdigest()[:16]
