"""What the user asks of a model at this moment, and how that compares with the run that there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from kronos_operator.api import KronosModel, Outcome, Run, Spec, UpdatePolicy
from kronos_operator.hashing import Digests, stage_hashes, template_hash, trained
from kronos_operator.plan.observed import Observed
from kronos_trainer.config import StageName


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asks for."""

    spec: Spec
    digests: Digests = field(default_factory=Digests)
    trigger: str = ""
    scheduled: bool = False  # the trigger is a tick of the schedule, which waits for its turn whatever the policy
    cancel: str = ""
    stages: frozenset[StageName] = frozenset(StageName)
    out_of_memory: Mapping[tuple[str, StageName], int] = field(default_factory=dict)
    refused: bool = False  # nothing may be started from this spec, and nothing gives way to it

    @staticmethod
    def of(model: KronosModel, observed: Observed) -> Request:
        """The request in a model and in what was observed of it."""
        return Request(
            spec=model.spec,
            digests=observed.digests,
            trigger=observed.trigger,
            scheduled=observed.scheduled,
            cancel=observed.cancel,
            stages=observed.stages,
            out_of_memory=observed.out_of_memory,
            refused=observed.refused is not None,
        )

    @cached_property
    def stage_hashes(self) -> dict[StageName, str]:
        """The stage hashes of the spec."""
        return stage_hashes(self.spec, self.digests)

    @cached_property
    def template_hash(self) -> str:
        """The hash of what an attempt would be built from beyond what it trains."""
        return template_hash(self.spec)

    def asks_anew(self, run: Run | None) -> bool:
        """Whether retraining is asked for, though nothing may have changed."""
        return self.trigger not in ("", "" if run is None else run.trigger)

    def insists(self, run: Run) -> bool:
        """Whether somebody asks for retraining; the schedule does not count."""
        return self.asks_anew(run) and not self.scheduled

    def changes(self, run: Run) -> bool:
        """Whether the spec is for something else than the run does. Under Manual, other scores are left to the next."""
        if self.spec.update_policy is UpdatePolicy.MANUAL:
            return self.retrains(run)
        return run.outcome is Outcome.SUPERSEDED or self.stage_hashes != run.stage_hashes

    def retrains(self, run: Run) -> bool:
        """Whether the spec is to train something else than the run does; scores aside."""
        return run.outcome is Outcome.SUPERSEDED or trained(self.stage_hashes) != trained(run.stage_hashes)

    def mends(self, run: Run) -> bool:
        """Whether what a failed run was built from has changed since."""
        return run.outcome is Outcome.FAILED and run.template_hash not in ("", self.template_hash)
