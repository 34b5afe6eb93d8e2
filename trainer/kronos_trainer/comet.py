"""Optional reporting to Comet. The loop talks to a Reporter and never learns whether there is one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from kronos_trainer.config import RunConfig


class Reporter(Protocol):
    """Receives a stage's numbers as they come."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers that hold after `step` optimizer steps."""

    def close(self) -> None:
        """No more numbers will come."""


class NullReporter:
    """Reports nothing."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class CometReporter:
    """Reports to one experiment. Its first failure is noted, and then it stays silent: training matters more."""

    def __init__(self, experiment: Any, note: Callable[[str], None]) -> None:
        self._experiment = experiment
        self._note = note
        self._broken = False

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the values under their names."""
        self._attempt(lambda: self._experiment.log_metrics(dict(values), step=step))

    def close(self) -> None:
        """Uploads what is left or, offline, writes the archive."""
        self._attempt(self._experiment.end)

    def _attempt(self, action: Callable[[], object]) -> None:
        if self._broken:
            return
        try:
            action()
        except Exception as error:
            self._broken = True
            self._note(_failed(error))


def open_reporter(run: RunConfig, note: Callable[[str], None], environ: Mapping[str, str] = os.environ) -> Reporter:
    """The reporter of this run's stage: one experiment per model and stage, with the config's tags.

    Comet is imported only if the run asks for it and the environment has COMET_API_KEY or an offline mode
    (COMET_MODE=offline or COMET_OFFLINE_DIRECTORY); its absence or failure is one note.
    """
    if run.comet is None:
        return NullReporter()
    offline = environ.get("COMET_MODE", "").lower() == "offline" or bool(environ.get("COMET_OFFLINE_DIRECTORY"))
    if not offline and not environ.get("COMET_API_KEY"):
        note("Comet: COMET_API_KEY is not set, so nothing is reported; COMET_MODE=offline would write an archive")
        return NullReporter()
    try:
        return CometReporter(_experiment(run, offline, environ), note)
    except ImportError:
        note("Comet: comet_ml is not installed, so nothing is reported; pip install 'kronos-operator[comet]'")
    except Exception as error:
        note(_failed(error))
    return NullReporter()


def _experiment(run: RunConfig, offline: bool, environ: Mapping[str, str]) -> Any:
    import comet_ml

    assert run.comet is not None
    settings: dict[str, Any] = {
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
        experiment: comet_ml.CometExperiment = comet_ml.OfflineExperiment(offline_directory=directory, **settings)
    else:
        experiment = comet_ml.Experiment(api_key=environ["COMET_API_KEY"], **settings)
    experiment.set_name(f"{run.model.name}-{run.stage.value}")
    experiment.add_tags([run.model.name, run.stage.value, *run.comet.tags])
    experiment.log_parameters(run.model_dump(mode="json", by_alias=True, exclude_none=True))
    return experiment


def _failed(error: Exception) -> str:
    return f"Comet: {type(error).__name__}: {error}; training goes on without reporting"
