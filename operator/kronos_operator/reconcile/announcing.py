"""Posts the Events of a model: when its state changes, and what somebody ought to know. Called by the reconciler."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from kronos_operator.api import Phase, Status
from kronos_operator.kube import Object, Recorder
from kronos_operator.plan import Answer, Verb

_WARNINGS = ("TrainerCrashed", "ProgressDeadlineExceeded", "StorageFailed")


class Announcer:
    """Posts Events."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._foreign: set[str] = set()  # uids of what was warned of

    async def change(self, body: Object, before: Status, after: Status, answer: Answer | None) -> None:
        """Posts the new reason of Ready, if phase or reason have changed, and the answer to a request."""
        if answer is not None:
            await self._answered(body, answer)
        old, new = before.condition("Ready"), after.condition("Ready")
        if new is None or (before.phase is after.phase and old is not None and old.reason == new.reason):
            return
        if answer is not None and answer.reason == new.reason:
            return  # as was said
        if new.status == "True" and new.reason == Phase.PENDING:
            return  # its pods are being made: within seconds they run, or it is said why they do not
        bad = new.status != "True" or new.reason in _WARNINGS
        await self._post(body, new.reason, new.message or str(after.phase), "Warning" if bad else "Normal")

    async def _answered(self, body: Object, answer: Answer) -> None:
        if answer.published is not None:
            await self._post(body, answer.reason, answer.message, "Normal")
            return
        what = "PromotionFailed" if answer.request.verb is Verb.PROMOTE else "RollbackFailed"
        await self._post(body, what, f"{answer.reason}: {answer.message}")

    async def foreign(self, body: Object, objects: Iterable[Object]) -> None:
        """Warns once of each object that looks like a child and is none."""
        for other in objects:
            uid = other["metadata"]["uid"]
            if uid not in self._foreign:
                self._foreign.add(uid)
                note = (
                    f"{other.get('kind', 'an object')} {other['metadata']['name']} carries the labels of this model's "
                    "children and is none of them: it is left alone"
                )
                await self._post(body, "ForeignObject", note)

    async def restored(self, body: Object, what: str) -> None:
        """Reports a child that was deleted and has been created again."""
        note = f"{what} was gone and is made again: the pods of the current attempt wait for it"
        await self._post(body, "ChildRestored", note)

    async def unreadable(self, body: Object, reason: str, note: str) -> None:
        """Reports an object that cannot be read."""
        await self._post(body, reason, note)

    async def _post(self, body: Object, reason: str, note: str, kind: Literal["Normal", "Warning"] = "Warning") -> None:
        await self._recorder.post(body, reason=reason, note=note, action="Reconcile", type=kind)
