"""The KronosModel API: the one source of the CRD, of what the command line accepts and of what the operator acts on."""

from kronos_operator.api.model import KronosModel, Metadata
from kronos_operator.api.pod import PodTemplate, SecretKey
from kronos_operator.api.resources import Quantity, Resources, quantity
from kronos_operator.api.spec import BackendName, Comet, Retry, Schedule, Spec, Storage, UpdatePolicy
from kronos_operator.api.status import (
    Artifact,
    Artifacts,
    CheckpointState,
    Condition,
    Failure,
    HistoryEntry,
    LastRestart,
    Phase,
    Progress,
    Restarts,
    Run,
    RunStep,
    ScheduleState,
    Status,
    Tracking,
    Trained,
)

__all__ = [
    "Artifact",
    "Artifacts",
    "BackendName",
    "CheckpointState",
    "Comet",
    "Condition",
    "Failure",
    "HistoryEntry",
    "KronosModel",
    "LastRestart",
    "Metadata",
    "Phase",
    "PodTemplate",
    "Progress",
    "Quantity",
    "Resources",
    "Restarts",
    "Retry",
    "Run",
    "RunStep",
    "Schedule",
    "ScheduleState",
    "SecretKey",
    "Spec",
    "Status",
    "Storage",
    "Tracking",
    "Trained",
    "UpdatePolicy",
    "quantity",
]
