"""The `kronos` command. Its modules import what is heavy inside their functions, so that `kronos --help` is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from kronos_operator.cli.about import crd, show_version, version
from kronos_operator.cli.backtest import backtest
from kronos_operator.cli.collection import backup, compare, export, prune, restore
from kronos_operator.cli.data import data
from kronos_operator.cli.diff import diff
from kronos_operator.cli.doctor import doctor
from kronos_operator.cli.failure import report
from kronos_operator.cli.forecast import forecast
from kronos_operator.cli.import_config import import_config
from kronos_operator.cli.init import init
from kronos_operator.cli.listing import list_models
from kronos_operator.cli.logs import logs
from kronos_operator.cli.operations import cancel, resume, retrain, suspend
from kronos_operator.cli.plan import plan
from kronos_operator.cli.promotion import promote, rollback
from kronos_operator.cli.pull import pull
from kronos_operator.cli.quickstart import quickstart
from kronos_operator.cli.report import show_report
from kronos_operator.cli.run import run
from kronos_operator.cli.runs import runs
from kronos_operator.cli.status import status
from kronos_operator.cli.submit import submit
from kronos_operator.cli.validate import validate


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


app = typer.Typer(
    name="kronos",
    callback=_options,
    help="Finetune Kronos K-line models from KronosModel files, and forecast with them.\n\n"
    "Commands act on this machine; with --cluster, --context or --kubeconfig on a Kubernetes cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_START, _TRAIN, _USE, _MORE = "Start here", "Train", "Use", "More"
_FOLLOW, _STEER, _KEEP = "Follow", "Steer", "Keep"
for _command, _name, _panel in (
    (quickstart, "quickstart", _START),
    (init, "init", _START),
    (import_config, "import-config", _START),
    (doctor, "doctor", _START),
    (validate, "validate", _TRAIN),
    (plan, "plan", _TRAIN),
    (run, "run", _TRAIN),
    (submit, "submit", _TRAIN),
    (diff, "diff", _TRAIN),
    (status, "status", _FOLLOW),
    (logs, "logs", _FOLLOW),
    (list_models, "list", _FOLLOW),
    (runs, "runs", _FOLLOW),
    (suspend, "suspend", _STEER),
    (resume, "resume", _STEER),
    (retrain, "retrain", _STEER),
    (cancel, "cancel", _STEER),
    (promote, "promote", _USE),
    (rollback, "rollback", _USE),
    (forecast, "forecast", _USE),
    (show_report, "report", _USE),
    (backtest, "backtest", _USE),
    (compare, "compare", _USE),
    (export, "export", _USE),
    (pull, "pull", _USE),
    (prune, "prune", _KEEP),
    (backup, "backup", _KEEP),
    (restore, "restore", _KEEP),
    (crd, "crd", _MORE),
    (version, "version", _MORE),
):
    app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(data, name="data", rich_help_panel=_USE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        code = app(list(sys.argv[1:] if arguments is None else arguments), prog_name="kronos", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away (`kronos list | head`): nothing more can be printed, also not at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:
        return report(error)
    return code if isinstance(code, int) else 0
