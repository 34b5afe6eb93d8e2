"""Optional reporting to Comet. The loop talks to a Reporter and never learns whether there is one."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol
from urllib.parse import urlsplit

from kronos_trainer.config import RunConfig, StageResult

PATIENCE = 10.0  # seconds that a stage may lose to a host that does not answer, over all of its time

Action = Callable[[Any], object] | None  # done with the experiment; None: no more will come


class Note(Protocol):
    """Tells the user something once; `everywhere`: it holds for every model that is trained from here."""

    def __call__(self, message: str, *, everywhere: bool = False) -> None: ...


class Reporter(Protocol):
    """Receives a stage's numbers as they come."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers that hold after `step` optimizer steps."""

    def judged(self, result: StageResult, report: Path) -> None:
        """What an evaluation has found, and the report of the run if it is there."""

    def close(self) -> None:
        """No more numbers will come."""


class NullReporter:
    """Reports nothing."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def judged(self, result: StageResult, report: Path) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class CometReporter:
    """Reports to one experiment, from a thread of its own: no step waits for a network.

    The first failure, and a host that has not answered after `PATIENCE` seconds, is noted; then it stays silent, since
    training matters more.
    """

    def __init__(self, experiment: Callable[[], Any], note: Note, *, patience: float | None) -> None:
        """`experiment` opens it, and is called in the thread. Without patience its end is waited for."""
        self._open = experiment
        self._note = note
        self._patience = patience
        self._began = time.monotonic()
        self._actions: SimpleQueue[Action] = SimpleQueue()
        self._opened = threading.Event()
        self._failure: Exception | None = None
        self._silent = False
        self._thread = threading.Thread(target=self._work, name="comet", daemon=True)
        self._thread.start()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the values under their names."""
        numbers = dict(values)
        if not self._opened.is_set() and self._waited_enough():
            self._give_up(_silence())
        self._act(lambda experiment: experiment.log_metrics(numbers, step=step))

    def judged(self, result: StageResult, report: Path) -> None:
        """Logs the numbers, the verdict and the decision, tags the experiment with them, and uploads the report."""
        numbers, words = _numbers(result), _words(result)
        self._act(lambda experiment: experiment.log_metrics(numbers))
        self._act(lambda experiment: experiment.log_others(words))
        self._act(lambda experiment: experiment.add_tags([word for name, word in words.items() if name != "note"]))
        if report.is_file():
            self._act(lambda experiment: experiment.log_asset(str(report), file_name=report.name))

    def close(self) -> None:
        """Uploads what is left or, offline, writes the archive."""
        self._act(lambda experiment: experiment.end())
        self._act(None)
        if self._silent:
            return
        # For the first answer no longer than was promised; once there was one, as long again for the rest.
        waited = 0.0 if self._opened.is_set() else time.monotonic() - self._began
        self._thread.join(None if self._patience is None else max(0.0, self._patience - waited))
        if self._thread.is_alive():
            self._give_up(_silence())
        self._look()

    def _waited_enough(self) -> bool:
        return self._patience is not None and time.monotonic() - self._began > self._patience

    def _act(self, action: Action) -> None:
        self._look()
        if not self._silent:
            self._actions.put(action)

    def _look(self) -> None:
        """Notes in the caller's thread what has failed in the other."""
        if self._failure is not None:
            self._give_up(f"{type(self._failure).__name__}: {self._failure}")

    def _give_up(self, why: str) -> None:
        if not self._silent:
            self._silent = True
            logging.getLogger("comet_ml").setLevel(logging.CRITICAL + 1)  # it goes on trying, and complaining
            self._note(f"Comet: {why}; training continues without reporting", everywhere=True)

    def _work(self) -> None:
        try:
            experiment = self._open()
            self._opened.set()
            while (action := self._actions.get()) is not None:
                action(experiment)
        except Exception as error:
            self._failure = error
            self._opened.set()


def open_reporter(run: RunConfig, note: Note, environ: Mapping[str, str] = os.environ) -> Reporter:
    """The reporter of this run's stage: one experiment per model and stage, with the config's tags.

    Comet is imported only if the run asks for it and the environment has COMET_API_KEY or an offline mode
    (COMET_MODE=offline or COMET_OFFLINE_DIRECTORY), and none that disables it (COMET_MODE=disabled); its absence or
    failure is one note, marked `everywhere`: it holds for every model that is trained from here.
    """
    mode = environ.get("COMET_MODE", "").lower()
    if run.comet is None or mode == "disabled":
        return NullReporter()
    offline = mode == "offline" or bool(environ.get("COMET_OFFLINE_DIRECTORY"))
    if not offline and not environ.get("COMET_API_KEY"):
        note(
            "Comet: COMET_API_KEY is not set, so nothing is reported; COMET_MODE=offline writes an archive instead",
            everywhere=True,
        )
        return NullReporter()
    try:
        # In this thread, since it changes other modules as they are imported.
        import comet_ml  # noqa: F401
    except ImportError:
        note(
            "Comet: comet_ml is not installed, so nothing is reported; pip install 'kronos-operator[comet]'",
            everywhere=True,
        )
        return NullReporter()
    return CometReporter(lambda: _experiment(run, offline, environ), note, patience=None if offline else PATIENCE)


def _experiment(run: RunConfig, offline: bool, environ: Mapping[str, str]) -> Any:
    import comet_ml

    assert run.comet is not None
    options: dict[str, Any] = {
        "project_name": run.comet.project,
        "workspace": environ.get("COMET_WORKSPACE") or run.comet.workspace,
        "log_code": False,
        "log_graph": False,
        "auto_metric_logging": False,
        "auto_param_logging": False,
        "auto_output_logging": False,
        "parse_args": False,
        "log_git_metadata": False,
        "log_git_patch": False,
        "display_summary_level": 0,
    }
    if offline:
        directory = environ.get("COMET_OFFLINE_DIRECTORY") or str(run.paths().logs)
        experiment: comet_ml.CometExperiment = comet_ml.OfflineExperiment(offline_directory=directory, **options)
    else:
        experiment = comet_ml.Experiment(api_key=environ["COMET_API_KEY"], **options)
        if not experiment.alive:
            raise ConnectionError("the experiment could not be opened")
    experiment.set_name(f"{run.model.name}-{run.stage.value}")
    experiment.add_tags([run.model.name, run.stage.value, *run.comet.tags])
    experiment.log_parameters(run.model_dump(mode="json", by_alias=True, exclude_none=True))
    return experiment


def _numbers(result: StageResult) -> dict[str, float]:
    """Of an evaluation: its loss and coverage, and the improvement over each rival."""
    summary = result.evaluation
    if summary is None:
        return {}
    numbers = {
        summary.metric: summary.loss,
        "dates": summary.dates,
        "symbols": summary.symbols,
        "readings": summary.readings,
        "coverage80": summary.coverage80,
        "calibrated80": summary.calibrated80,
        **{f"improvement.{one.rival}": one.improvement for one in summary.comparisons},
    }
    return {name: value for name, value in numbers.items() if value is not None}


def _words(result: StageResult) -> dict[str, str]:
    """Of an evaluation: its verdict and what limits it, and what the gate has decided."""
    summary, promotion = result.evaluation, result.promotion
    words = {
        "verdict": "" if summary is None else summary.verdict,
        "note": "" if summary is None else summary.note,
        "promotion": "" if promotion is None else promotion.decision,
    }
    return {name: word for name, word in words.items() if word}


def _silence() -> str:
    host = urlsplit(os.environ.get("COMET_URL_OVERRIDE", "")).hostname or "its host"
    return f"{host} did not answer within {PATIENCE:.0f} s"
