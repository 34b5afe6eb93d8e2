"""One rank of one stage, or of several in a row: `python -m kronos_trainer --run run.json`.

Ends with an exit code of kronos_trainer.config.ExitCode, and leaves it for the launcher.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kronos_trainer import threads
from kronos_trainer.arguments import Arguments
from kronos_trainer.config import ExitCode, load_run
from kronos_trainer.launch import rank_files
from kronos_trainer.stopping import StopSignal, end_process


def main(arguments: Sequence[str], stop_requested: StopSignal) -> int:
    """Trains the stages of run configs as one rank, one after the other, and returns its exit code."""
    parser = Arguments(
        prog="python -m kronos_trainer",
        description="Train one stage of a run as one rank. `python -m kronos_trainer launch` starts all ranks.",
    )
    parser.add_argument(
        "--run",
        type=Path,
        action="append",
        required=True,
        help="the run config of one stage; given again, of the next, which this process goes on with",
    )
    # Before Python 3.12, torchrun takes our --run for its own --run-path unless a "--" comes first, which it hands on.
    given = arguments[1:] if arguments[:1] == ["--"] else arguments
    try:
        runs = [load_run(file) for file in parser.parse_args(given).run]
    except ValueError as error:
        print(error, file=sys.stderr)
        return ExitCode.CONFIG

    # Imported late, so that a mistake in run.json is reported at once.
    threads.sleep_while_waiting(os.environ)  # the launcher has done so; other programs start ranks as well
    from kronos_trainer.training.stage_rank import StageRank

    ranks = None
    for number, run in enumerate(runs):
        rank_files.leave_stage(number)
        stage = StageRank(run, stop_requested)
        code = stage.train(ranks)
        if code != ExitCode.DONE:
            return code
        ranks = stage.ranks
    return ExitCode.DONE


def end(code: int) -> NoReturn:
    """Leaves the exit code for the launcher and ends this process."""
    rank_files.leave_exit_code(code)
    end_process(code)
