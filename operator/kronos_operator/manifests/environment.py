"""Environment of the training container: torchrun's contract, the user's variables, and defaults that yield to them."""

from __future__ import annotations

from typing import Any

from kronos_operator import names
from kronos_operator.api import Resources, Spec, quantity
from kronos_operator.manifests.attempt import AttemptTemplate

Variables = dict[str, dict[str, Any]]

_RENDEZVOUS_SECONDS = 1800  # images arrive on some nodes long before others


def environment(attempt: AttemptTemplate, rendezvous: Variables) -> list[dict[str, Any]]:
    """The container's variables. `rendezvous` has those by which the nodes find each other."""
    spec = attempt.model.spec
    variables: Variables = {
        **_defaults(attempt.resources),
        **_users(spec),
        **_secrets(spec),
        **_HOME,
        # Restarts are the operator's: static rendezvous could not bring a gang together again.
        **values(
            {
                "PET_RDZV_BACKEND": "static",
                "PET_RDZV_CONF": f"timeout={_RENDEZVOUS_SECONDS}",
                "PET_MAX_RESTARTS": "0",
            }
        ),
        **rendezvous,
    }
    return [{"name": name, **variable} for name, variable in variables.items()]


def command_environment(spec: Spec) -> list[dict[str, Any]]:
    """The variables of a container that carries out a command on the results: it computes nothing."""
    variables = {**values({"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}), **_users(spec), **_HOME}
    return [{"name": name, **variable} for name, variable in variables.items()]


def _users(spec: Spec) -> Variables:
    """The user's variables, among them those of the object store."""
    given = [one.model_dump(mode="json", by_alias=True, exclude_defaults=True) for one in spec.pod_template.env]
    return {variable.pop("name"): variable for variable in given}


def _defaults(resources: Resources) -> Variables:
    defaults = {
        # Container runtimes name a pod's interface eth0; left to itself gloo may choose the loopback. Ranks that
        # compute on GPUs vote over gloo too.
        "GLOO_SOCKET_IFNAME": "eth0",
        "NCCL_DEBUG": "WARN",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
    }
    if resources.gpus_per_node == 0:
        defaults["CUDA_VISIBLE_DEVICES"] = ""  # CUDA images show all of a node's GPUs, allotted or not
    if resources.cpu is not None:
        # A process sees all cores of its node, not the pod's share of them.
        defaults["OMP_NUM_THREADS"] = str(max(1, int(quantity(resources.cpu)) // resources.processes))
    return values(defaults)


def _secrets(spec: Spec) -> Variables:
    keys = {
        names.HUB_TOKEN_ENV: spec.hub_token_secret,
        names.COMET_API_KEY_ENV: None if spec.comet is None else spec.comet.api_key_secret,
    }
    return {
        name: {"valueFrom": {"secretKeyRef": {"name": key.name, "key": key.key, "optional": True}}}
        for name, key in keys.items()
        if key is not None
    }


def values(texts: dict[str, str]) -> Variables:
    """Variables with these values."""
    return {name: {"value": text} for name, text in texts.items()}


# The root is read-only, and caches go below HOME. USER stands in where the image has no entry for the user id.
_HOME = values({"HOME": names.SCRATCH_MOUNT, "USER": "kronos"})
