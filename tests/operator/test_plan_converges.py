"""A simulated executor, cut off anywhere, under random events: plan must bring every model to its end all the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kronos_operator.api import KronosModel, Outcome, Run, TrainedStage
from kronos_operator.hashing import stage_hashes
from kronos_operator.plan import (
    Attempt,
    AttemptState,
    EventKind,
    Observed,
    Plan,
    StartAttempt,
    plan,
)
from kronos_trainer.config import StageName

FINISHED = (AttemptState.SUCCEEDED, AttemptState.FAILED)


@dataclass
class World:
    """What exists outside of the executor: gangs, files, and what was written down."""

    gangs: dict[tuple[str, int], Attempt]
    files: list[TrainedStage]
    published: str
    record: Run | None
    asked_anew: bool = False

    def create(self, action: StartAttempt) -> None:
        key = (action.run, action.attempt)
        if key in self.gangs:
            return
        for stage, hash_ in action.stage_hashes.items():
            fact = TrainedStage(run=action.run, stage=stage, hash=hash_)
            if stage is action.stage and fact in self.files:
                assert action.publish and self.published != action.run, f"{fact} is trained twice"
            if stage is action.stage and not self.asked_anew:
                elsewhere = [known for known in self.files if (known.stage, known.hash) == (stage, hash_)]
                assert not elsewhere or fact in elsewhere, f"{fact} is trained again"
            if stage is StageName.TOKENIZER and action.stage is StageName.PREDICTOR:
                reuse = action.reuse.get(stage)
                source = fact if reuse is None else TrainedStage(run=reuse.run, stage=stage, hash=reuse.hash)
                assert source in self.files, "the predictor is started without its tokenizer"
                assert source.hash == hash_, "the predictor is started with another tokenizer"
        self.gangs[key] = Attempt(
            run=action.run, stage=action.stage, attempt=action.attempt, state=AttemptState.WAITING
        )

    def end(self, key: tuple[str, int], code: int, hashes: dict[StageName, str]) -> None:
        gang = self.gangs[key]
        if code == 0:
            self.files.insert(0, TrainedStage(run=gang.run, stage=gang.stage, hash=hashes[gang.stage]))
            if gang.stage is StageName.PREDICTOR:
                self.published = gang.run
        state = AttemptState.SUCCEEDED if code == 0 else AttemptState.FAILED
        self.gangs[key] = replace(gang, state=state, exit_code=code)


class Executor(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0
        self.spec: dict[str, Any] = {
            "timeframe": "1d",
            "data": {"source": {"path": "bars"}},
            "evaluation": {"enabled": False},
            "retry": {"maxRestarts": 2, "backoffSeconds": 10, "progressDeadlineSeconds": 600},
            "updatePolicy": "Finish",
        }
        self.world = World({}, [], "", None)
        self.seen: list[Attempt] = []
        self.hashes_of_runs: dict[str, dict[StageName, str]] = {}
        self.trigger = self.cancel = ""
        self.scheduled = False
        self.hopeless: set[str] = set()  # runs whose gangs can never start: they have bars that do not exist
        self.trained: set[str] = set()  # runs that the executor knows to have got somewhere

    @property
    def model(self) -> KronosModel:
        return KronosModel.model_validate({"metadata": {"name": "m"}, "spec": self.spec})

    def observe(self) -> Observed:
        """The executor's view: late, but never without the record's current gang."""
        record, attempts = self.world.record, list(self.seen)
        if record is not None:
            key = (record.id, record.attempt)
            if all((attempt.run, attempt.attempt) != key for attempt in attempts) and key in self.world.gangs:
                attempts.append(self.world.gangs[key])
        return Observed(
            run=record,
            trained=tuple(self.world.files),
            attempts=attempts,
            published=self.world.published,
            trigger=self.trigger,
            scheduled=self.scheduled,
            cancel=self.cancel,
        )

    def reconcile(self, actions_before_crash: int | None = None) -> Plan:
        seen = self.observe()
        decided = plan(self.model, seen, self.now)
        self.check(seen, decided)
        self.world.record = decided.run
        for action in decided.actions[:actions_before_crash]:
            if isinstance(action, StartAttempt):
                self.hashes_of_runs[action.run] = dict(action.stage_hashes)
                mistyped = self.spec["data"]["source"]["path"] != "bars"
                if mistyped and dict(action.stage_hashes) == stage_hashes(self.model.spec):
                    self.hopeless.add(action.run)
                self.world.create(action)
            else:
                key = (action.run, action.attempt)
                gang = self.world.gangs.get(key)
                if gang is not None and gang.state.live:
                    self.world.gangs[key] = replace(gang, state=AttemptState.STOPPING)
        return decided

    def check(self, seen: Observed, decided: Plan) -> None:
        """What no step may do, whatever comes after it."""
        before, record = seen.run, decided.run
        if record is None:
            return
        kinds = {one.kind for one in decided.events}
        open_before = before is not None and before.outcome is None
        assert (EventKind.RUN_BEGAN in kinds) is (not open_before and record != before)
        assert (EventKind.RUN_ENDED in kinds) is (record.outcome is not None and record != before)
        if before is not None and open_before:
            assert decided.ends_attempt is (record.attempt > before.attempt), "an end is not reported"
        if before is None or before.outcome is not None:
            self.trained.discard(record.id)
            if before is not None and seen.trigger not in ("", before.trigger) and record.outcome is None:
                known = {fact.run for fact in seen.trained}
                assert record.id not in known, "what is there already is taken for the retraining"
            return
        for attempt in seen.attempts:
            current = (attempt.run, attempt.attempt) == (before.id, before.attempt)
            if current and (attempt.has_progress or attempt.state is AttemptState.SUCCEEDED):
                self.trained.add(attempt.run)
        newly = before.stop is None and (record.stop, record.outcome) != (before.stop, before.outcome)
        if newly and "Superseded" in (record.stop, record.outcome):
            policy = self.spec["updatePolicy"]
            assert policy == "Cancel" or before.id not in self.trained, "a training is not finished"
            assert before.stage_hashes != stage_hashes(self.model.spec) or not self.scheduled, "a tick stops a run"

    def live(self) -> list[tuple[str, int]]:
        return [key for key, gang in self.world.gangs.items() if gang.state.live]

    def able(self) -> list[tuple[str, int]]:
        """The gangs that are told of by more than their ends."""
        return [key for key in self.live() if key[0] not in self.hopeless]

    def end(self, code: int) -> None:
        for key in self.live():
            if key[0] not in self.hopeless:
                self.world.end(key, code, self.hashes_of_runs[key[0]])
            elif self.world.gangs[key].state is AttemptState.STOPPING:
                self.world.end(key, 143, self.hashes_of_runs[key[0]])

    @initialize(policy=st.sampled_from(["Finish", "Cancel", "Manual"]))
    def begins_with(self, policy: str) -> None:
        self.spec |= {"updatePolicy": policy}

    @rule(crash=st.sampled_from([None, None, 0, 1]))
    def reconciles(self, crash: int | None) -> None:
        self.reconcile(crash)

    @rule()
    def dies_before_writing(self) -> None:
        plan(self.model, self.observe(), self.now)

    @rule()
    def sees_the_present(self) -> None:
        self.seen = list(self.world.gangs.values())

    @rule(seconds=st.sampled_from([1.0, 30.0, 601.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.live())
    @rule(has_progress=st.booleans(), disrupted=st.booleans())
    def gang_runs(self, has_progress: bool, disrupted: bool) -> None:
        for key in self.able():
            gang = self.world.gangs[key]
            if gang.state is not AttemptState.STOPPING:
                self.world.gangs[key] = replace(
                    gang,
                    state=AttemptState.RUNNING,
                    started_at=gang.started_at or self.now,
                    reported_at=self.now,
                    has_progress=gang.has_progress or has_progress,
                    disrupted=gang.disrupted or disrupted,
                    whole=True,
                )

    @precondition(lambda self: self.live())
    @rule()
    def gang_is_put_back_into_its_queue(self) -> None:
        for key in self.live():
            gang = self.world.gangs[key]
            if gang.state is not AttemptState.STOPPING:
                self.world.gangs[key] = replace(gang, state=AttemptState.QUEUED, started_at=None, disrupted=False)

    @precondition(lambda self: self.live())
    @rule(code=st.sampled_from([0, 0, 0, 1, 65, 71, 74, 75, 137, 143]))
    def gang_ends(self, code: int) -> None:
        self.end(code)

    @rule(passes=st.sampled_from([1, 4]))
    def a_stage_or_a_run_goes_well(self, passes: int) -> None:
        """Without it hardly any run would get far enough for its results to matter."""
        for _ in range(passes):
            self.sees_the_present()
            self.reconcile()
            self.end(0)

    @precondition(lambda self: self.live())
    @rule()
    def gang_vanishes(self) -> None:
        """Deleted by somebody, evicted and collected: nobody saw how it ended."""
        for key in self.live():
            del self.world.gangs[key]

    @rule()
    def finished_gangs_are_collected(self) -> None:
        record = self.world.record
        for key in [key for key, gang in self.world.gangs.items() if not gang.state.live]:
            # Only what has been written down may go.
            if record is not None and key != (record.id, record.attempt):
                del self.world.gangs[key]

    @rule(
        epochs=st.sampled_from([30, 31]),
        seed=st.sampled_from([100, 101]),
        path=st.sampled_from(["bars", "bars", "mistyped"]),
    )
    def spec_changes(self, epochs: int, seed: int, path: str) -> None:
        self.spec |= {"predictor": {"epochs": epochs}, "training": {"seed": seed}, "data": {"source": {"path": path}}}

    @rule(
        policy=st.sampled_from(["Finish", "Cancel", "Manual"]), suspend=st.booleans(), image=st.sampled_from(["a", "b"])
    )
    def settings_change(self, policy: str, suspend: bool, image: str) -> None:
        self.spec |= {"updatePolicy": policy, "suspend": suspend, "image": image}

    @rule(words=st.sampled_from(["t1", "t2"]), scheduled=st.booleans())
    def retraining_is_asked_for(self, words: str, scheduled: bool) -> None:
        """By somebody, who may use the same words again, or by the schedule."""
        self.world.asked_anew = True
        self.trigger, self.scheduled = words, scheduled

    @rule()
    def cancelling_is_asked_for(self) -> None:
        self.cancel = f"c{int(self.cancel[1:] or 0) + 1}"

    @invariant()
    def one_gang_at_a_time(self) -> None:
        assert len(self.live()) <= 1

    @invariant()
    def attempts_never_come_again(self) -> None:
        record = self.world.record
        assert record is None or all(number <= record.attempt for _, number in self.world.gangs)

    def teardown(self) -> None:
        """From here on nothing goes wrong, and one more request is made: it must be answered."""
        self.spec |= {"suspend": False, "updatePolicy": "Finish", "data": {"source": {"path": "bars"}}}
        self.retraining_is_asked_for("the last", scheduled=False)
        for _ in range(30):
            self.sees_the_present()
            decided = self.reconcile()
            self.one_gang_at_a_time()
            self.end(0)
            if decided.wake_at is not None:
                self.now = max(self.now, decided.wake_at)
            elif not decided.actions and not self.live() and decided.run is not None and decided.run.outcome:
                self.sees_the_present()
                if self.reconcile().actions == ():
                    break
        record = self.world.record
        assert record is not None
        assert record.outcome is Outcome.SUCCEEDED, record
        assert record.stage_hashes == stage_hashes(self.model.spec)
        assert record.trigger == self.trigger
        assert self.world.published == record.id


Executor.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestExecutor = Executor.TestCase
