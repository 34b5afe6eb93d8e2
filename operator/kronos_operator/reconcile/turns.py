"""Whose turn it is: the order in which models start when places are short. Kueue's models are none of its business.

Two gangs that each hold half of what they need wait for each other for ever. So where places of one kind are known to
be short, one gang at a time tries to find them, in order, and the others hold none. While nothing is short, all start
at once.

A place is of two kinds: a pod of a namespace's quota, and a node for pods of one shape. One that tried and found none
is asked again when a running gang of its kind has ended, or when all others of its kind have tried too: a model that
can never be placed must not hold up those behind it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from kronos_operator.kube import Key

Kind = tuple[str, str]  # ("quota", namespace), ("nodes", shape) or ("running", "")

_RUNNING: Kind = ("running", "")
_GAVE_BACK: Kind = ("gave back", "")


class Standing(StrEnum):
    """What a model has of the places that it needs."""

    WAITS = "waits"  # none: it waits for its turn
    TRIES = "tries"  # its pods are made, and some have no place
    HOLDS = "holds"  # all


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A model that needs places."""

    priority: int
    since: float  # when its run began, in seconds since the epoch
    namespace: str
    shape: str  # equal for pods that fit the same nodes
    standing: Standing
    lacks: Kind | None = None  # the kind of place that it is known to be short of, or waits for
    gave_back: bool = False  # it has held some of its places already, and not all

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        """The places that it competes for."""
        return ("quota", self.namespace), ("nodes", self.shape)


class Turns:
    """All claims. `wake` is called with the key of a model whose turn may have come."""

    def __init__(self, most_running: int | None, wake: Callable[[Key], None]) -> None:
        self._most = most_running
        self._wake = wake
        self._claims: dict[Key, Claim] = {}
        self._waiting: defaultdict[Kind, set[Key]] = defaultdict(set)
        self._trying: defaultdict[Kind, set[Key]] = defaultdict(set)
        self._short: defaultdict[Kind, set[Key]] = defaultdict(set)  # of those that try
        self._live = 0
        self._tried_at: dict[Key, float] = {}
        self._freed_at: dict[Kind, float] = {}

    def put(self, key: Key, claim: Claim | None, now: float) -> None:
        """Takes in where a model stands; None for one that neither runs nor wants to."""
        before = self._claims.get(key)
        if before == claim:
            return
        if before is not None:
            self._remove(key, before)
        if claim is not None:
            self._add(key, claim)
        if before is None or before.standing is Standing.WAITS:
            if before is not None and before.lacks is not None and claim is None:
                self._call((before.lacks,))
            return
        left = claim is None or claim.standing is Standing.WAITS
        if before.standing is Standing.TRIES and left:
            self._tried_at[key] = now
        elif before.standing is Standing.HOLDS and left:
            self._freed_at.update(dict.fromkeys((*before.kinds, _RUNNING), now))
        if claim is None or claim.standing is not Standing.TRIES:
            self._call((*before.kinds, _RUNNING, _GAVE_BACK))

    def forget(self, key: Key, now: float) -> None:
        """Lets a model go that was deleted."""
        self.put(key, None, now)
        self._tried_at.pop(key, None)

    def ask(self, key: Key, claim: Claim, now: float) -> int | None:
        """The model's place in the line, 1 being the next; None if it may start, which makes it one that tries."""
        wants = replace(claim, standing=Standing.WAITS)
        known = self._claims.get(key)
        if known is not None and known.standing is Standing.WAITS:
            wants = replace(wants, lacks=known.lacks)
        kind = self._held_by(key, wants)
        if kind is None:
            self.put(key, replace(claim, standing=Standing.TRIES, lacks=None), now)
            return None
        self.put(key, replace(wants, lacks=kind), now)
        return 1 + sum(self._rank(other, kind) < self._rank(key, kind) for other in self._waiting[kind] - {key})

    def outranked(self, key: Key) -> bool:
        """Whether it lacks places while a model that comes first lacks the same."""
        claim = self._claims.get(key)
        if claim is None or claim.standing is not Standing.TRIES or claim.lacks is None:
            return False
        kind = claim.lacks
        rank = self._rank(key, kind)
        urgent = {other for other in self._waiting[kind] if self._claims[other].priority > claim.priority}
        return any(self._rank(other, kind) < rank for other in (self._short[kind] | urgent) - {key})

    def contended(self, key: Key) -> bool:
        """Whether others wait for the places that it tries to find."""
        claim = self._claims.get(key)
        return claim is not None and any(self._waiting[kind] - {key} for kind in claim.kinds)

    def _held_by(self, key: Key, claim: Claim) -> Kind | None:
        """The kind of place that it has to wait for."""
        if self._most is not None:
            rank = self._rank(key, _RUNNING, claim)
            ahead = sum(self._rank(other, _RUNNING) < rank for other in self._waiting[_RUNNING] - {key})
            if self._live + ahead >= self._most:
                return _RUNNING
        if claim.gave_back and self._trying[_GAVE_BACK]:
            return _GAVE_BACK
        for kind in claim.kinds:
            line = self._waiting[kind]
            if self._short[kind] or (line and self._trying[kind]):
                return kind
            if any(self._rank(other, kind) < self._rank(key, kind, claim) for other in line - {key}):
                return kind
        return None

    def _rank(self, key: Key, kind: Kind, claim: Claim | None = None) -> tuple[bool, float, float, Key]:
        """Those that have not tried since places became free, by priority and age; then those that tried, in turn."""
        claim = claim or self._claims[key]
        tried = self._tried_at.get(key)
        if tried is not None and tried >= self._freed_at.get(kind, 0.0):
            return True, tried, 0.0, key
        return False, -claim.priority, claim.since, key

    def _call(self, kinds: tuple[Kind, ...]) -> None:
        for kind in kinds:
            line = self._waiting[kind]
            if line:
                self._wake(min(line, key=lambda key: self._rank(key, kind)))

    def _add(self, key: Key, claim: Claim) -> None:
        self._claims[key] = claim
        for index, kind in self._entries(claim):
            index[kind].add(key)
        self._live += claim.standing is not Standing.WAITS

    def _remove(self, key: Key, claim: Claim) -> None:
        del self._claims[key]
        for index, kind in self._entries(claim):
            index[kind].discard(key)
        self._live -= claim.standing is not Standing.WAITS

    def _entries(self, claim: Claim) -> Iterator[tuple[defaultdict[Kind, set[Key]], Kind]]:
        if claim.standing is Standing.WAITS:
            if claim.lacks is not None:
                yield self._waiting, claim.lacks
        elif claim.standing is Standing.TRIES:
            for kind in claim.kinds:
                yield self._trying, kind
            if claim.gave_back:
                yield self._trying, _GAVE_BACK
            if claim.lacks is not None:
                yield self._short, claim.lacks
