"""The Kubernetes objects of a run, as plain values. Pure: the reconciler decides when they are created and deleted."""

from kronos_operator.manifests.children import children
from kronos_operator.manifests.freeze import frozen, run_config_map
from kronos_operator.manifests.gang import Gang, Manifest, local_paths, queue_of

__all__ = ["Gang", "Manifest", "children", "frozen", "local_paths", "queue_of", "run_config_map"]
