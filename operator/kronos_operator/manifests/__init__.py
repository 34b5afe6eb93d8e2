"""The Kubernetes objects of a run, as plain values. Pure: the reconciler decides when they are created and deleted."""

from kronos_operator.manifests.attempt import AttemptTemplate, Manifest, attempt_config_map, local_paths, queue_of
from kronos_operator.manifests.environment import Variables, values
from kronos_operator.manifests.freeze import frozen, run_config_map
from kronos_operator.manifests.pod import pod_template

__all__ = [
    "AttemptTemplate",
    "Manifest",
    "Variables",
    "attempt_config_map",
    "frozen",
    "local_paths",
    "pod_template",
    "queue_of",
    "run_config_map",
    "values",
]
