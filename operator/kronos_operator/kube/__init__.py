"""The only code that talks to a Kubernetes API server. Used by the reconciler and by the commands for a cluster.

Objects are the plain values of their JSON, as the server sends them. Nothing in here knows what a model is.
"""

from kronos_operator.kube.client import Cluster, Created
from kronos_operator.kube.connecting import service_address
from kronos_operator.kube.errors import ClusterError, Conflict, Expired, NoCluster, NotFound, Rejected, Unavailable
from kronos_operator.kube.events import Recorder
from kronos_operator.kube.executing import Command, execute
from kronos_operator.kube.kinds import Kind, Object
from kronos_operator.kube.logs import LogEnd
from kronos_operator.kube.watches import Watches
from kronos_operator.kube.watching import Change, Key, Packed, Store, Watch

__all__ = [
    "Change",
    "Cluster",
    "ClusterError",
    "Command",
    "Conflict",
    "Created",
    "Expired",
    "Key",
    "Kind",
    "LogEnd",
    "NoCluster",
    "NotFound",
    "Object",
    "Packed",
    "Recorder",
    "Rejected",
    "Store",
    "Unavailable",
    "Watch",
    "Watches",
    "execute",
    "service_address",
]
