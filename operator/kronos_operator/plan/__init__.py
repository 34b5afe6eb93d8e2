"""Decides what happens next to a model, without I/O and clock. Called by both executors, local and Kubernetes."""

from kronos_operator.plan.actions import Action, Deletions, StartAttempt, StopAttempt, start_of
from kronos_operator.plan.attempt import Attempt, AttemptState
from kronos_operator.plan.begin import begin
from kronos_operator.plan.conditions import Condition
from kronos_operator.plan.decide import Plan, plan
from kronos_operator.plan.events import Event, EventKind
from kronos_operator.plan.observed import Observed
from kronos_operator.plan.obstacle import Obstacle
from kronos_operator.plan.pointing import Answer, PointerPod, PointerRequest, Pointing, Published, Verb, pending
from kronos_operator.plan.preview import StageAction, StagePreview, done_by, preview
from kronos_operator.plan.request import Request

__all__ = [
    "Action",
    "Answer",
    "Attempt",
    "AttemptState",
    "Condition",
    "Deletions",
    "Event",
    "EventKind",
    "Observed",
    "Obstacle",
    "Plan",
    "PointerPod",
    "PointerRequest",
    "Pointing",
    "Published",
    "Request",
    "StageAction",
    "StagePreview",
    "StartAttempt",
    "StopAttempt",
    "Verb",
    "begin",
    "done_by",
    "pending",
    "plan",
    "preview",
    "start_of",
]
