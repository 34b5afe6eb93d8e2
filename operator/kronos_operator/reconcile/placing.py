"""Decides with `plan`, once it is known whether it is the model's turn. Called by the reconciler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kronos_operator.api import KronosModel, Status
from kronos_operator.kube import Key
from kronos_operator.manifests import queue_of
from kronos_operator.plan import Observed, Plan, plan
from kronos_operator.policy import Policy
from kronos_operator.reconcile.claims import claim_of
from kronos_operator.reconcile.kueue import steady_place
from kronos_operator.reconcile.observing import Observation
from kronos_operator.reconcile.turns import Turns

_SETTLING = 20.0  # seconds


class Placing:
    """The order in which models start. `wake` is called with the key of a model whose turn may have come."""

    def __init__(self, policy: Policy, wake: Callable[[Key], None], now: float) -> None:
        self._policy = policy
        self._turns = Turns(policy.max_running, wake)
        # A new process knows who holds places when it has looked at every model once; who waited goes on waiting.
        self._settled_at = now + _SETTLING

    def forget(self, key: Key, now: float) -> None:
        """Lets a model go that was deleted."""
        self._turns.forget(key, now)

    def settles_at(self, now: float) -> float | None:
        """When it will be known who holds places; None once it is."""
        return self._settled_at if now < self._settled_at else None

    def decide(self, key: Key, model: KronosModel, seen: Observation) -> tuple[Observed, Plan]:
        """What is planned, and on which observation."""
        now, run, before = seen.now, seen.observed.run, model.status or Status()
        queued = bool(queue_of(model, self._policy.default_queue))  # Kueue gives a gang all of its places or none
        live = seen.attempt if seen.attempt is not None and seen.attempt.state.live else None
        holds = run is not None and live is not None and not queued
        if run is not None and holds:
            self._turns.put(key, claim_of(model, run, live, seen.observed.waiting), now)
        observed = replace(
            seen.observed,
            gang_start_seconds=None if queued else self._policy.gang_start_seconds,
            outranked=self._turns.outranked(key),
            contended=self._turns.contended(key),
        )
        decided = plan(model, observed, now)
        if decided.starts and not queued:
            assert decided.run is not None
            place = before.queue_position
            if place is None or now >= self._settled_at:
                place = self._turns.ask(key, claim_of(model, decided.run, None, None), now)
            if place is not None:
                observed = replace(observed, place=steady_place(place, before.queue_position))
                decided = plan(model, observed, now)
        elif not holds:
            self._turns.put(key, None, now)
        return observed, decided
