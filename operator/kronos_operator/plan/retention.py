"""What is to be deleted of attempts, and how long ended ones are kept for somebody to look at. Called by plan."""

from __future__ import annotations

from collections.abc import Sequence

from kronos_operator.api import Run
from kronos_operator.plan.actions import Deletions
from kronos_operator.plan.attempt import Attempt


def deletions(
    run: Run | None, attempts: Sequence[Attempt], seconds: float, now: float
) -> tuple[Deletions, float | None]:
    """What to delete now, and when the next attempt expires.

    A success is kept for so many seconds after its end, and the last failure while no success has followed it. Only
    what the run has taken note of may go.
    """
    stuck = tuple(_key(one) for one in attempts if one.stuck)
    ended = [one for one in attempts if one.finished_at is not None and run is not None and one.attempt < run.attempt]
    kept, expires = _kept(ended, seconds, now)
    expired = tuple(_key(one) for one in ended if one not in kept and not one.deleting)
    left = frozenset(_key(one) for one in attempts) - set(expired)
    return Deletions(stuck=stuck, expired=expired, kept=left), expires


def _kept(ended: Sequence[Attempt], seconds: float, now: float) -> tuple[list[Attempt], float | None]:
    successes = [one for one in ended if one.succeeding]
    failures = [one for one in ended if not one.succeeding]
    expiries = {one.attempt: (one.finished_at or 0.0) + seconds for one in successes}
    kept = [one for one in successes if expiries[one.attempt] > now]
    last = max(failures, key=lambda one: one.attempt, default=None)
    if last is not None and all(one.attempt < last.attempt for one in successes):
        kept.append(last)
    return kept, min((moment for moment in expiries.values() if moment > now), default=None)


def _key(attempt: Attempt) -> tuple[str, int]:
    return attempt.run, attempt.attempt
