"""What is to be deleted of attempts, and how long ended ones are kept for somebody to look at. Called by plan."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kronos_operator.api import Run
from kronos_operator.plan.actions import Deletions
from kronos_operator.plan.attempt import Attempt


def deletions(
    run: Run | None, attempts: Sequence[Attempt], seconds: float, now: float
) -> tuple[Deletions, float | None]:
    """What to delete now, and when the next attempt expires.

    The successes of a run are kept for so many seconds after the last of them has ended, and while the run goes on: so
    they go together, in one request. The last failure is kept while no success has followed it. Only what the run has
    taken note of may go.
    """
    stuck = tuple(_key(one) for one in attempts if one.stuck)
    ended = [one for one in attempts if one.finished_at is not None and run is not None and one.attempt < run.attempt]
    kept, expires = _kept(run, ended, seconds, now)
    expired = tuple(_key(one) for one in ended if one not in kept and not one.deleting)
    left = frozenset(_key(one) for one in attempts) - set(expired)
    return Deletions(stuck=stuck, expired=expired, kept=left), expires


def _kept(run: Run | None, ended: Sequence[Attempt], seconds: float, now: float) -> tuple[list[Attempt], float | None]:
    successes = [one for one in ended if one.succeeding]
    failures = [one for one in ended if not one.succeeding]
    expiries: dict[str, float] = {}
    for one in successes:
        expiries[one.run] = max(expiries.get(one.run, 0.0), (one.finished_at or 0.0) + seconds)
    if run is not None and run.outcome is None and run.id in expiries:
        expiries[run.id] = math.inf
    kept = [one for one in successes if expiries[one.run] > now]
    last = max(failures, key=lambda one: one.attempt, default=None)
    if last is not None and all(one.attempt < last.attempt for one in successes):
        kept.append(last)
    return kept, min((moment for moment in expiries.values() if now < moment < math.inf), default=None)


def _key(attempt: Attempt) -> tuple[str, int]:
    return attempt.run, attempt.attempt
