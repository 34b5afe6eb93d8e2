"""Decides what happens next to a model, without I/O and clock. Called by both executors, local and Kubernetes."""

from kronos_operator.plan.actions import Action, Deletions, StartAttempt, StopAttempt, start_of
from kronos_operator.plan.attempt import Attempt, AttemptState
from kronos_operator.plan.begin import begin
from kronos_operator.plan.conditions import Condition
from kronos_operator.plan.decide import Plan, plan
from kronos_operator.plan.events import Event, EventKind
from kronos_operator.plan.observed import Observed, Obstacle
from kronos_operator.plan.preview import StageAction, StagePreview, done_by, preview
from kronos_operator.plan.request import Request

__all__ = [
    "Action",
    "Attempt",
    "AttemptState",
    "Condition",
    "Deletions",
    "Event",
    "EventKind",
    "Observed",
    "Obstacle",
    "Plan",
    "Request",
    "StageAction",
    "StagePreview",
    "StartAttempt",
    "StopAttempt",
    "begin",
    "done_by",
    "plan",
    "preview",
    "start_of",
]
