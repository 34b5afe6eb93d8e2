"""Which models a new process need not look at: those that one like it has left with nothing to do.

Most of thousands of models have ended, and a pass over one of these takes longer than reading it. So the status says
what it was decided on besides spec, children and time; where that is still so, the next resync is early enough.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version

from kronos_operator import names
from kronos_operator.api import Status
from kronos_operator.backends import backend_of
from kronos_operator.kube import Key, Object
from kronos_operator.kube.conditions import true_condition
from kronos_operator.kube.kinds import POD
from kronos_operator.reconcile.causes import has_ended
from kronos_operator.reconcile.times import seconds_of
from kronos_operator.settings import Settings
from kronos_trainer.config import NUMERICS_VERSION

_REQUESTS = (names.RETRAIN_ANNOTATION, names.CANCEL_ANNOTATION, names.PROMOTE_ANNOTATION, names.ROLLBACK_ANNOTATION)
_SHOWN = ("phase", "evaluation", "conditions")  # in metrics


class Basis:
    """What decides on a model besides its spec, its status, its children and the time."""

    def __init__(self, settings: Settings) -> None:
        operator = [version("kronos-operator"), NUMERICS_VERSION, settings.default_image]
        self._operator = json.dumps([*operator, settings.policy.model_dump(mode="json")], sort_keys=True)

    def of(self, annotations: Mapping[str, str]) -> str:
        """Hash of this operator and of the requests on an object, 16 hex digits."""
        requests = [annotations.get(name, "") for name in _REQUESTS]
        return hashlib.sha256(json.dumps([self._operator, *requests]).encode()).hexdigest()[:16]


class Arrivals:
    """Models and their children as they are listed at the start, whichever come first."""

    def __init__(self, settings: Settings, now: Callable[[], float]) -> None:
        self._basis = Basis(settings)
        self._now = now
        self._expiries: dict[Key, float] = {}  # of what settled models have left behind
        self._parents: set[Key] = set()
        self._busy: set[Key] = set()

    def model(self, body: Object) -> Status | None:
        """Takes in a model, as it is now. Returns what metrics tell of it if it is settled."""
        key, expiry, status = Key.of(body), self._expiry(body), body.get("status") or {}
        self._expiries.pop(key, None)
        if expiry is None:
            return None
        try:
            shown = Status.model_validate({name: status[name] for name in _SHOWN if name in status}, extra="ignore")
        except ValueError:
            return None  # a pass over it tells what is wrong
        self._expiries[key] = expiry
        return shown

    def child(self, model: Key, body: Object | None) -> None:
        """Takes in a model's workload or pod, as it is now; None for one that is gone."""
        self._parents.add(model)
        if body is None or _goes_on(body):
            self._busy.add(model)

    def is_busy(self, key: Key) -> bool:
        """Whether any of the model's children goes on, or has gone."""
        return key in self._busy

    def look_after(self, key: Key) -> float | None:
        """In how many seconds the model is to be looked at; None if something has to happen first."""
        expiry = self._expiries.get(key)
        if expiry is None or self.is_busy(key):
            return 0.0
        return max(0.0, expiry - self._now()) if key in self._parents else None

    def _expiry(self, body: Object) -> float | None:
        """When the children of a settled model expire; None for another."""
        metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
        noted = (status.get("tracking") or {}).get("settled")
        if not noted or status.get("observedGeneration") != metadata.get("generation") or spec.get("schedule"):
            return None
        finished = true_condition(body, "Finished")
        ended = None if finished is None else seconds_of(finished.get("lastTransitionTime"))
        kept = spec.get("childTTLSecondsAfterFinished")
        if ended is None or not isinstance(kept, int) or metadata.get("deletionTimestamp"):
            return None
        return ended + kept if noted == self._basis.of(metadata.get("annotations") or {}) else None


def _goes_on(child: Object) -> bool:
    if child["metadata"].get("deletionTimestamp"):
        return True
    return not has_ended(child) if child["kind"] == POD.kind else backend_of(child).end(child) is None
