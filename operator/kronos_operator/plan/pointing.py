"""Promotions and rollbacks that users ask for: when a pod that moves the pointer to the published run may start, and
what it came to. Called by plan.

Each value of an annotation is answered once, for it may lie in a repository that is applied again and again. The pod
may run twice for one request, when the operator is cut off: what it does is done already then.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from kronos_operator import names
from kronos_operator.api import KronosModel
from kronos_operator.plan.attempt import Attempt, AttemptState
from kronos_operator.plan.obstacle import Obstacle
from kronos_trainer.config import StageName

START_SECONDS = 900.0  # in which its pod must run: an image of several GB may have to be pulled
_CANDIDATE = "candidate"
_RUN = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NOT_IN_USE = (AttemptState.QUEUED, AttemptState.SUCCEEDED, AttemptState.FAILED)  # of the model's directory


class Verb(StrEnum):
    """What is asked for."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"

    @property
    def annotation(self) -> str:
        """The annotation in which it is asked for."""
        return {Verb.PROMOTE: names.PROMOTE_ANNOTATION, Verb.ROLLBACK: names.ROLLBACK_ANNOTATION}[self]


@dataclass(frozen=True, kw_only=True)
class PointerRequest:
    """A request, with the text of its annotation.

    The text of a promotion names the run, or `candidate` for the newest that was held; what follows makes it another
    request. That of a rollback is any.
    """

    verb: Verb
    text: str
    name: str  # of all that is made for it

    @classmethod
    def of(cls, model: KronosModel, verb: Verb, text: str) -> PointerRequest:
        """The request of a model, whose uid tells it from that of an earlier object."""
        digest = hashlib.sha256(f"{model.metadata.uid} {verb} {text}".encode()).hexdigest()
        return cls(verb=verb, text=text, name=names.command_name(model.metadata.name, verb, digest))

    @property
    def run(self) -> str:
        """The run to promote; empty for the candidate, and for a rollback."""
        word = next(iter(self.text.split()), "")
        return "" if self.verb is Verb.ROLLBACK or word == _CANDIDATE else word

    @property
    def sound(self) -> bool:
        """Whether its run can be one."""
        return not self.run or _RUN.fullmatch(self.run) is not None

    @property
    def asked_at(self) -> float:
        """When it was asked for, if the text ends with a time, as the command line's does; else 0."""
        try:
            return datetime.fromisoformat(self.text.split()[-1]).timestamp()
        except (ValueError, OverflowError):
            return 0.0


@dataclass(frozen=True, kw_only=True)
class Published:
    """What was reported as published."""

    run: str
    previous: str = ""
    digests: Mapping[StageName, str] = field(default_factory=dict)
    hashes: Mapping[StageName, str] = field(default_factory=dict)
    bytes: Mapping[StageName, int] = field(default_factory=dict)
    through: Mapping[StageName, str] = field(default_factory=dict)  # last day of the bars, YYYY-MM-DD


@dataclass(frozen=True, kw_only=True)
class PointerPod:
    """The pod of a request as it is observed."""

    request: PointerRequest
    answered: bool  # what became of it is written already
    created_at: float
    started: bool = False
    ended: bool = False
    deleting: bool = False
    published: Published | None = None  # once it has ended well
    reason: str = ""  # why it does not start, or has failed, in one CamelCase word
    message: str = ""  # its last words, or those of whoever knows why it does not start
    look_at: float | None = None  # when to look again though no change is reported

    def is_late(self, now: float) -> bool:
        """Whether it should have started by now."""
        return not self.started and now >= self.created_at + START_SECONDS


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What has become of a request: the published run, or why nothing was done."""

    request: PointerRequest
    published: Published | None
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Pointing:
    """What to do for requests. While `busy`, nothing else of the model may start: they share its directory."""

    start: PointerRequest | None = None
    answer: Answer | None = None
    deletions: tuple[str, ...] = ()  # pods, by name, that are no longer needed once the status is written
    busy: bool = False
    wake_at: float | None = None


def point(
    asked: Sequence[PointerRequest],
    pods: Sequence[PointerPod],
    attempts: Sequence[Attempt],
    refused: Obstacle | None,
    now: float,
) -> Pointing:
    """What to do for the oldest of the requests that are `asked` and not answered; one that is under way comes first.

    `refused` is why nothing may be started from the spec, or why the API server does not take the pod.
    """
    under_way = [pod.request for pod in pods if not (pod.answered or pod.deleting)]
    request = min(under_way or asked, key=lambda one: one.asked_at, default=None)
    done = tuple(pod.request.name for pod in pods if pod.answered and not pod.deleting)
    if request is None:
        return Pointing(deletions=done)

    def answered(reason: str, message: str, published: Published | None = None) -> Pointing:
        answer = Answer(request=request, published=published, reason=reason, message=message)
        deletions = done if pod is None or pod.deleting else (*done, request.name)
        return Pointing(answer=answer, deletions=deletions, busy=True, wake_at=now)

    pod = next((one for one in pods if one.request.name == request.name), None)
    if pod is not None and pod.published is not None:
        return answered("Promoted" if request.verb is Verb.PROMOTE else "RolledBack", pod.message, pod.published)
    if pod is not None and pod.deleting:
        return Pointing(deletions=done, busy=True)  # somebody else has deleted it: it starts again when it is gone
    if pod is not None and pod.ended:
        return answered(pod.reason or "PodFailed", pod.message)
    if pod is not None and pod.is_late(now):
        return answered(pod.reason or "PodNotStarted", f"its pod did not start: {pod.message or 'no reason was given'}")
    if pod is not None:
        late = None if pod.started else pod.created_at + START_SECONDS
        wake_at = min((moment for moment in (late, pod.look_at) if moment is not None), default=None)
        return Pointing(deletions=done, busy=True, wake_at=wake_at)
    if refused is not None:
        return answered(refused.reason, refused.message)
    if not request.sound:
        message = f"{request.run!r} is no run: {names.PROMOTE_ANNOTATION} is the id of one, or `{_CANDIDATE}`"
        return answered("InvalidRequest", message)
    if any(attempt.state not in _NOT_IN_USE for attempt in attempts):
        return Pointing(deletions=done)
    return Pointing(start=request, deletions=done, busy=True)


def pending(
    model: KronosModel, asked: Mapping[Verb, str], answered: Mapping[Verb, str | None]
) -> tuple[PointerRequest, ...]:
    """The requests in annotations that are not answered yet."""
    return tuple(
        PointerRequest.of(model, verb, text) for verb, text in asked.items() if text and text != answered.get(verb)
    )
