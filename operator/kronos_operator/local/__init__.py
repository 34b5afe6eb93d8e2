"""Runs models on this machine, without a cluster: the local executor of plan. Called by the command line."""

from kronos_operator.local.catalogue import Entry, read_catalogue
from kronos_operator.local.digests import weights_digest
from kronos_operator.local.executor import RunResult, execute
from kronos_operator.local.files import published_run, stored_model
from kronos_operator.local.prepare import LocalRun, PlannedStage, prepare, write_run_configs
from kronos_operator.local.refusals import Refusal, bars_fault, refusals, sample_command, weights_path
from kronos_operator.local.settings import LocalError, LocalSettings
from kronos_operator.local.state import ModelState, read_runs, read_states
from kronos_operator.local.stopping import stop

__all__ = [
    "Entry",
    "LocalError",
    "LocalRun",
    "LocalSettings",
    "ModelState",
    "PlannedStage",
    "Refusal",
    "RunResult",
    "bars_fault",
    "execute",
    "prepare",
    "published_run",
    "read_catalogue",
    "read_runs",
    "read_states",
    "refusals",
    "sample_command",
    "stop",
    "stored_model",
    "weights_digest",
    "weights_path",
    "write_run_configs",
]
