"""Finds how to reach the API server, and proves who asks. Used by `client`, and by the login of Kopf."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import getproxies

import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config
from kubernetes.aio.config.config_exception import ConfigException

from kronos_operator.kube.errors import NoCluster

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_KUBECONFIG_ENV = "KUBECONFIG"
_KUBECONFIG_DEFAULT = Path("~/.kube/config")


def service_address(environ: Mapping[str, str] = os.environ) -> str:
    """URL of the API server for a pod, by the address that the kubelet gives it: no name has to be resolved."""
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT", "443")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


@dataclass(frozen=True, kw_only=True)
class Access:
    """Where a configuration comes from; it is read again when its credentials have run out."""

    kubeconfig: str | None  # a path, or several joined by the system's separator; None inside a pod
    context: str | None

    @classmethod
    def find(cls, kubeconfig: Path | None, context: str | None) -> Access:
        """A given file, else that of KUBECONFIG, else the service account of the pod, else ~/.kube/config."""
        named = str(kubeconfig) if kubeconfig else os.environ.get(_KUBECONFIG_ENV)
        if not named and not context and (_SERVICE_ACCOUNT / "token").exists():
            return cls(kubeconfig=None, context=None)
        return cls(kubeconfig=named or str(_KUBECONFIG_DEFAULT.expanduser()), context=context)

    async def configuration(self) -> Configuration:
        """Address and credentials. Raises NoCluster, saying what is missing."""
        configuration = Configuration()
        configuration.connection_pool_maxsize = 0  # without limit: each watch of each namespace holds a connection
        if not getproxies():
            # aiohttp would look for a proxy in the environment before every request, in a thread: half of its time.
            configuration.client_session_kwargs = {"trust_env": False}
        try:
            if self.kubeconfig is None:
                load_incluster_config(client_configuration=configuration)
            else:
                self._require_file(self.kubeconfig)
                await load_kube_config(
                    config_file=self.kubeconfig,
                    context=self.context,
                    client_configuration=configuration,
                    persist_config=False,
                )
        except (ConfigException, OSError, yaml.YAMLError) as error:
            raise NoCluster(f"{self.kubeconfig or 'the service account'} cannot be used: {error}") from error
        return configuration

    def namespace(self) -> str:
        """The namespace that commands mean when none is given: the context's or the pod's own, else default."""
        if self.kubeconfig is None:
            return (_SERVICE_ACCOUNT / "namespace").read_text().strip() or "default"
        documents: list[dict[str, Any]] = [
            yaml.safe_load(path.read_text()) or {}
            for path in map(Path, self.kubeconfig.split(os.pathsep))
            if path.is_file()
        ]
        chosen = self.context or next((one["current-context"] for one in documents if one.get("current-context")), None)
        for document in documents:
            for entry in document.get("contexts") or []:
                if entry["name"] == chosen:
                    return entry["context"].get("namespace") or "default"
        return "default"

    def _require_file(self, kubeconfig: str) -> None:
        if not any(Path(part).expanduser().is_file() for part in kubeconfig.split(os.pathsep) if part):
            raise NoCluster(
                f"no cluster is configured: there is no {kubeconfig}; give --kubeconfig, or set {_KUBECONFIG_ENV}"
            )
