"""The Kubernetes objects of a run, as plain values. Pure: the reconciler decides when they are created and deleted."""

from kronos_operator.manifests.attempt import AttemptTemplate, Manifest, attempt_config_map, local_paths, queue_of
from kronos_operator.manifests.environment import Variables, values
from kronos_operator.manifests.freeze import frozen, run_config_map
from kronos_operator.manifests.pod import pod_template
from kronos_operator.manifests.pointer_pod import PointerTemplate, pointer_pod

__all__ = [
    "AttemptTemplate",
    "Manifest",
    "PointerTemplate",
    "Variables",
    "attempt_config_map",
    "frozen",
    "local_paths",
    "pod_template",
    "pointer_pod",
    "queue_of",
    "run_config_map",
    "values",
]
