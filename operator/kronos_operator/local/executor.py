"""Carries out plans on this machine: trainers are child processes. Called by `kronos run`."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

from kronos_operator.api import Outcome
from kronos_operator.local.files import next_file, saved_step, write_bars, write_model, write_run
from kronos_operator.local.gpus import divided, used_at_once, visible_gpus
from kronos_operator.local.holding import holding
from kronos_operator.local.prepare import TRAINER, LocalRun
from kronos_operator.local.process import Trainer
from kronos_operator.local.settings import LocalError, LocalSettings
from kronos_operator.plan import Attempt, AttemptState, Observed, StartAttempt, plan
from kronos_trainer.config import EndedEvent, Event, ExitCode, NoteEvent, RunConfig, StartedEvent, now_text

Notify = Callable[[str, Event], None]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a model's run ended. `log` is that of its last attempt."""

    exit_code: int
    message: str
    log: Path | None = None


def execute(
    runs: Sequence[LocalRun],
    settings: LocalSettings,
    notify: Notify,
    *,
    trainer_command: Sequence[str] = TRAINER,
    environ: Mapping[str, str] | None = None,
) -> dict[str, RunResult]:
    """Runs the models and returns how each ended, by `LocalRun.key`, in the order given.

    The first SIGINT or SIGTERM asks every trainer to save and starts nothing more; SIGINT after it kills. `notify` gets
    every event of the trainers and of the executor, one at a time, and must not raise. Has to be called in the main
    thread, which alone receives signals. Raises LocalError if a model is named twice or the trainer is not installed.
    """
    keys = [run.key for run in runs]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise LocalError(ExitCode.CONFIG, f"model {twice} is given twice; models of one command need different names")
    if tuple(trainer_command) == TRAINER and any(run.begun.outcome is None for run in runs):
        _require_trainer()
    environ = os.environ if environ is None else environ
    gpus = visible_gpus(environ)
    wanted = min(settings.workers(len(gpus)), len(runs)) if settings.mode == "parallel" else 1
    shares = divided(gpus, max(1, wanted), per_gpu=settings.workers_per_gpu)
    shared = _Shared(shares, environ, tuple(trainer_command), _one_at_a_time(notify))
    with ThreadPoolExecutor(len(shares)) as pool, _signals(shared):
        futures = {run.key: pool.submit(_ModelLoop(run, shared).drive) for run in runs}
        return {key: future.result() for key, future in futures.items()}


class _Shared:
    """What the models of one command share."""

    def __init__(
        self, shares: Sequence[Sequence[str]], environ: Mapping[str, str], trainer: tuple[str, ...], notify: Notify
    ) -> None:
        self.workers = len(shares)
        self.environ = environ
        self.trainer = trainer
        self.notify = notify
        self.stops = 0
        self.without_comet = False
        self.shares: SimpleQueue[Sequence[str]] = SimpleQueue()
        for share in shares:
            self.shares.put(share)
        self._wake: list[threading.Event] = []

    def waker(self) -> threading.Event:
        """An event that is set when something may have changed for a model."""
        event = threading.Event()
        self._wake.append(event)
        return event

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first signal is a wish to stop; Ctrl-C after it is an urgent one."""
        if self.stops == 0 or number == signal.SIGINT:  # a supervisor, or `kronos suspend`, may ask twice
            self.stops += 1
        for event in self._wake:
            event.set()


class _ModelLoop:
    """The loop of one model: observe, plan, act, wait."""

    def __init__(self, prepared: LocalRun, shared: _Shared) -> None:
        self._prepared = prepared
        self._shared = shared
        self._changed = shared.waker()
        self._run = prepared.begun
        self._attempt: StartAttempt | None = None
        self._trainer: Trainer | None = None
        self._before: Trainer | None = None  # the last attempt, whose process may go on with the next
        self._announced: RunConfig | None = None  # what that process goes on with
        self._log: Path | None = None
        self._gpus: Sequence[str] = ()
        self._last_code: int | None = None

    def drive(self) -> RunResult:
        """Runs the model to its end."""
        gpus = self._shared.shares.get()
        self._gpus = gpus
        try:
            if self._run.outcome is not None:
                return self._result()  # nothing is to be done
            with holding(self._prepared.paths, self._prepared.key, self._note):
                self._prepared.must_be_as_prepared()
                return self._loop()
        except LocalError as error:
            return RunResult(exit_code=error.exit_code, message=str(error), log=self._log)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            return RunResult(exit_code=ExitCode.STORAGE, message=f"{place}{error.strerror}", log=self._log)
        finally:
            for trainer in (self._before, self._trainer):
                if trainer is not None:
                    trainer.kill()
                    trainer.close()
            self._shared.shares.put(gpus)

    def _loop(self) -> RunResult:
        while True:
            now = time.time()
            stopping = self._shared.stops > 0
            if stopping and self._trainer is not None:
                self._trainer.terminate()  # before it is looked at: it is not to go on with another stage
            observed = self._observe()
            decided = plan(self._prepared.model, observed, now)
            assert decided.run is not None  # a local run is never suspended
            self._run = decided.run
            if decided.ends_attempt and self._trainer is not None:
                self._end_attempt()
            if self._run.outcome is not None:
                return self._result()
            if stopping and self._trainer is None:
                return self._stopped()
            for action in decided.actions:
                if not isinstance(action, StartAttempt):
                    assert self._trainer is not None
                    self._trainer.terminate()
                elif not stopping:
                    self._start(action)
            self._wait(self._stop_trainer() if stopping else decided.wake_at)

    def _observe(self) -> Observed:
        run = self._run
        return Observed(
            run=run,
            attempts=() if self._trainer is None else (self._observed(self._trainer),),
            digests=self._prepared.digests,
            trigger=run.trigger,
            cancel=run.cancel,
            stages=frozenset(stage.stage for stage in run.stages if stage.wanted),
        )

    def _observed(self, trainer: Trainer) -> Attempt:
        assert self._attempt is not None
        code, message = trainer.exit_code, trainer.reason
        result = self._prepared.paths.stage(self._attempt.stage).completed() if code == 0 else None
        if code == 0 and result is None:
            code, message = ExitCode.CRASHED, "the trainer ended without a result"
        if trainer.unlogged and code is not None:
            code = ExitCode.STORAGE
        if code is None:
            state = AttemptState.RUNNING if trainer.terminated_at is None else AttemptState.STOPPING
        else:
            state = AttemptState.SUCCEEDED if code == 0 else AttemptState.FAILED
        return Attempt(
            run=self._attempt.run,
            stage=self._attempt.stage,
            attempt=self._attempt.attempt,
            state=state,
            exit_code=code,
            message=message,
            result=result,
            final=trainer.meets_it_again,
            has_progress=trainer.has_progress,
            started_at=trainer.started_at,
            reported_at=trainer.reported_at,
        )

    def _start(self, action: StartAttempt) -> None:
        paths = self._prepared.paths
        resources = self._prepared.model.spec.resources.of_stage(action.stage)
        gpus = used_at_once(self._gpus, resources.gpus_per_node)
        config = self._prepared.run_config(action)
        write_run(config, paths.stage(action.stage).config)
        write_model(self._prepared.stored, paths)
        write_bars(self._prepared.bars_record, paths)
        asked = resources.processes_per_node or max(1, len(gpus))
        processes = min(asked, len(gpus)) if gpus else asked  # NCCL does not let two share a GPU
        self._log = paths.log(action.run, action.stage, action.attempt)
        self._attempt = action
        self._trainer = self._going_on(config) or self._started(action, processes, gpus)
        started = StartedEvent(
            **self._whose(),
            pid=self._trainer.pid,
            log=str(self._log),
            gpus=tuple(gpus),
            processes=processes,
            time=now_text(),
        )
        self._trainer.note(started)
        if len(gpus) < resources.gpus_per_node:
            used = f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''}" if gpus else "the CPU"
            self._trainer.note(self._note_event(f"gpusPerNode is {resources.gpus_per_node}; this run uses {used}"))
        if processes < asked:
            message = f"processesPerNode is {asked}; this run uses {processes}, one for each GPU, for the same batches"
            self._trainer.note(self._note_event(message))
        self._trainer.watch()

    def _going_on(self, config: RunConfig) -> Trainer | None:
        """The attempt of the process that has trained the last stage and goes on with this one, None without one."""
        before = self._before
        if before is None:
            return None
        if before.goes_on and config == self._announced:
            assert self._log is not None
            following = before.next(self._log)
            self._before = None
            return following
        before.kill()  # it has ended, as a rule
        return None

    def _started(self, action: StartAttempt, processes: int, gpus: Sequence[str]) -> Trainer:
        """A new process, which goes on with the next stage where that trains weights as well."""
        paths, following = self._prepared.paths, self._following(action)
        configs = [paths.stage(action.stage).config]
        self._announced = None
        if following is not None:
            self._announced = self._prepared.run_config(following)
            configs.append(next_file(paths))
            write_run(self._announced, configs[-1])
        command = [*self._shared.trainer, "launch"]
        for config in configs:
            command += ["--run", str(config)]
        assert self._log is not None
        return Trainer.start(
            [*command, "--nproc", str(processes)],
            environ=self._environ(processes, gpus),
            log=self._log,
            on_event=self._heard,
            on_change=self._changed.set,
            goes_on=following is not None,
        )

    def _following(self, action: StartAttempt) -> StartAttempt | None:
        """What plan will start once this attempt has succeeded, if it trains weights too, as its processes can."""
        left = [stage for stage in self._run.stages if stage.wanted and not stage.done]
        if len(left) < 2 or not (action.stage.has_weights and left[1].stage.has_weights):
            return None
        return replace(
            action,
            stage=left[1].stage,
            attempt=action.attempt + 1,
            out_of_memory_restarts=0,
            publish=left[1].publish,
        )

    def _note(self, message: str) -> None:
        self._shared.notify(self._prepared.key, NoteEvent(message=message))

    def _heard(self, event: Event) -> None:
        if isinstance(event, NoteEvent) and event.everywhere:
            # What a stage has found out about Comet, the next ones need not find out again.
            self._shared.without_comet = True
        self._shared.notify(self._prepared.key, event)

    def _environ(self, processes: int, gpus: Sequence[str]) -> dict[str, str]:
        threads = max(1, (os.cpu_count() or 1) // (self._shared.workers * processes))
        return {
            "OMP_NUM_THREADS": str(threads),  # unless the user has set it
            **self._shared.environ,
            **({"COMET_MODE": "disabled"} if self._shared.without_comet else {}),
            "CUDA_VISIBLE_DEVICES": ",".join(gpus),
            "PYTHONUNBUFFERED": "1",
        }

    def _end_attempt(self) -> None:
        """Reports how the attempt ended, and what follows."""
        trainer, run = self._trainer, self._run
        assert trainer is not None
        code = trainer.exit_code
        self._last_code = ExitCode.STORAGE if trainer.unlogged else code
        trainer.note(EndedEvent(**self._whose(), exit_code=code, message=trainer.error, time=now_text()))
        if run.outcome is None and code != 0 and not self._shared.stops:
            wait = max(0.0, (run.retry_at or 0.0) - time.time())
            when = f"in {wait:.0f} s" if wait else "now"
            trainer.note(self._note_event(f"exit code {code}: starts again {when}"))
        trainer.close()
        with suppress(OSError):
            next_file(self._prepared.paths).unlink()
        self._before = trainer
        self._trainer = None

    def _stop_trainer(self) -> float | None:
        """Kills a trainer that was asked to stop too long ago, or is to stop at once; when to look again."""
        trainer = self._trainer
        if trainer is None:
            return time.time()
        deadline = (trainer.terminated_at or time.time()) + self._grace_seconds()
        if self._shared.stops > 1 or time.time() >= deadline:
            trainer.kill()
            return None
        return deadline

    def _grace_seconds(self) -> int:
        assert self._attempt is not None
        return self._prepared.run_config(self._attempt).grace_seconds

    def _wait(self, until: float | None) -> None:
        self._changed.wait(None if until is None else max(0.0, until - time.time()))
        self._changed.clear()

    def _result(self) -> RunResult:
        if self._run.outcome is Outcome.SUCCEEDED:
            return RunResult(exit_code=0, message="", log=self._log)
        return RunResult(exit_code=self._last_code or ExitCode.CRASHED, message=self._run.message, log=self._log)

    def _stopped(self) -> RunResult:
        if self._last_code is None:
            return RunResult(exit_code=ExitCode.STOPPED, message="not started", log=self._log)
        assert self._attempt is not None
        stage = self._attempt.stage
        step = saved_step(self._prepared.paths.stage(stage))
        if self._last_code == 0:
            message = f"stopped after the {stage}, which is complete; the same command goes on from there"
        elif step is None:
            message = f"stopped before anything was saved; the same command starts the {stage} again"
        elif self._last_code == ExitCode.STOPPED:
            message = f"stopped, and step {step} is saved; the same command goes on from there"
        else:
            message = f"stopped without saving; the same command goes on from its checkpoint of step {step}"
        return RunResult(exit_code=self._last_code or ExitCode.STOPPED, message=message, log=self._log)

    def _note_event(self, message: str) -> NoteEvent:
        return NoteEvent(**self._whose(), message=message, time=now_text())

    def _whose(self) -> dict[str, Any]:
        assert self._attempt is not None
        return {"stage": self._attempt.stage.value, "run": self._attempt.run, "attempt": self._attempt.attempt}


def _require_trainer() -> None:
    if importlib.util.find_spec("torch") is None:
        raise LocalError(
            ExitCode.ENVIRONMENT, "training needs torch, of the trainer extra: pip install 'kronos-operator[trainer]'"
        )


def _one_at_a_time(notify: Notify) -> Notify:
    lock = threading.Lock()

    def serial(key: str, event: Event) -> None:
        with lock:
            notify(key, event)

    return serial


@contextmanager
def _signals(shared: _Shared) -> Iterator[None]:
    before = {number: signal.signal(number, shared.on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
