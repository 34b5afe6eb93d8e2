"""The KronosModel API: the one source of the CRD, of what the command line accepts and of what the operator acts on."""

from kronos_operator.api.evaluation import Compared, Evaluated
from kronos_operator.api.model import KronosModel, Metadata
from kronos_operator.api.pod import PodTemplate, SecretKey
from kronos_operator.api.resources import Quantity, Resources, quantity
from kronos_operator.api.run import (
    LastRestart,
    Outcome,
    Restarts,
    Run,
    RunStage,
    StopReason,
    TrainedStage,
)
from kronos_operator.api.spec import BackendName, Comet, Retry, Schedule, Spec, Storage, UpdatePolicy
from kronos_operator.api.status import (
    Artifact,
    Artifacts,
    CheckpointState,
    Condition,
    Failure,
    HistoryEntry,
    Phase,
    Progress,
    PromotionState,
    ScheduleState,
    Status,
    Tracking,
)

__all__ = [
    "Artifact",
    "Artifacts",
    "BackendName",
    "CheckpointState",
    "Comet",
    "Compared",
    "Condition",
    "Evaluated",
    "Failure",
    "HistoryEntry",
    "KronosModel",
    "LastRestart",
    "Metadata",
    "Outcome",
    "Phase",
    "PodTemplate",
    "Progress",
    "PromotionState",
    "Quantity",
    "Resources",
    "Restarts",
    "Retry",
    "Run",
    "RunStage",
    "Schedule",
    "ScheduleState",
    "SecretKey",
    "Spec",
    "Status",
    "StopReason",
    "Storage",
    "Tracking",
    "TrainedStage",
    "UpdatePolicy",
    "quantity",
]
