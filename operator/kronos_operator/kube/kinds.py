"""The kinds of objects that are read or written, and where the API server keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from kronos_operator.names import GROUP, KIND, PLURAL, VERSION

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of the API. The core group is the empty text."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The apiVersion of objects of the kind, e.g. events.k8s.io/v1."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Path of one object, or of all objects: in a namespace, or without one in the whole cluster."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = ["namespaces", namespace, self.plural] if self.namespaced and namespace else [self.plural]
        parts += [part for part in (name, subresource) if part]
        return "/".join([root, *(quote(part, safe="") for part in parts)])


KRONOSMODEL = Kind(group=GROUP, version=VERSION, plural=PLURAL, kind=KIND)
POD = Kind(group="", version="v1", plural="pods", kind="Pod")
SERVICE = Kind(group="", version="v1", plural="services", kind="Service")
CONFIGMAP = Kind(group="", version="v1", plural="configmaps", kind="ConfigMap")
PVC = Kind(group="", version="v1", plural="persistentvolumeclaims", kind="PersistentVolumeClaim")
CORE_EVENT = Kind(group="", version="v1", plural="events", kind="Event")
EVENT = Kind(group="events.k8s.io", version="v1", plural="events", kind="Event")
WORKLOAD = Kind(group="kueue.x-k8s.io", version="v1beta2", plural="workloads", kind="Workload")
NODE = Kind(group="", version="v1", plural="nodes", kind="Node", namespaced=False)
