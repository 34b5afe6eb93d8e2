"""Decides what happens next to a model, without I/O and clock. Called by both executors, local and Kubernetes."""

from kronos_operator.plan.attempts import Attempt, AttemptState
from kronos_operator.plan.decide import Action, Observed, Plan, StartAttempt, StopAttempt, plan, start_of
from kronos_operator.plan.preview import StageAction, StagePreview, preview
from kronos_operator.plan.record import Completed, Outcome, Request, Restart, RunRecord, Step, StopReason, begin
from kronos_operator.plan.story import Condition

__all__ = [
    "Action",
    "Attempt",
    "AttemptState",
    "Completed",
    "Condition",
    "Observed",
    "Outcome",
    "Plan",
    "Request",
    "Restart",
    "RunRecord",
    "StageAction",
    "StagePreview",
    "StartAttempt",
    "Step",
    "StopAttempt",
    "StopReason",
    "begin",
    "plan",
    "preview",
    "start_of",
]
