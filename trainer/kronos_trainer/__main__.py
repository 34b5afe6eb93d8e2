"""`python -m kronos_trainer --run run.json`: one rank of one stage, alone or under torchrun; `launch` starts all ranks.

Ends with an exit code of kronos_trainer.config.ExitCode, and leaves it for the launcher.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from kronos_trainer.config import ExitCode, load_run


def main(arguments: Sequence[str]) -> int:
    """Trains the stage of a run.json as one rank and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m kronos_trainer",
        description="Train one stage of a run as one rank. `python -m kronos_trainer launch` starts all ranks.",
    )
    parser.add_argument("--run", type=Path, required=True, help="the run config of one stage")
    # Before Python 3.12, torchrun takes our --run for its own --run-path unless a "--" comes first, which it hands on.
    given = arguments[1:] if arguments[:1] == ["--"] else arguments
    try:
        run = load_run(parser.parse_args(given).run)
    except ValueError as error:
        print(error, file=sys.stderr)
        return ExitCode.CONFIG

    # Imported late, so that a mistake in run.json is told at once.
    import torch

    from kronos_trainer.distributed import Ranks, is_loss_of_peer
    from kronos_trainer.errors import Stopped, TrainerError
    from kronos_trainer.progress import Progress
    from kronos_trainer.stopping import StopSignal
    from kronos_trainer.train import train_stage

    progress = Progress(run, silent=os.environ.get("RANK", "0") != "0")
    stop_requested = StopSignal()
    try:
        ranks = Ranks.join(gpu_required=run.gpu_required)
        try:
            train_stage(run, ranks, progress=progress, stop_requested=stop_requested)
        except Stopped:
            ranks.leave()  # all ranks stop together
            raise
        ranks.leave()
    except TrainerError as error:
        # Other errors are every rank's, and rank 0 speaks for all; this one may be known to this rank alone.
        speaker = Progress(run) if isinstance(error.__cause__, torch.OutOfMemoryError) else progress
        speaker.error(error.exit_code, str(error))
        print(f"{run.model.name} {run.stage}: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if is_loss_of_peer(error):
            print(f"{run.model.name} {run.stage}: this rank lost the connection to another rank", file=sys.stderr)
            return ExitCode.CRASHED
        Progress(run).error(ExitCode.CRASHED, f"{type(error).__name__}: {error}")
        traceback.print_exc()
        return ExitCode.CRASHED
    return ExitCode.DONE


def end(code: int) -> None:
    """Ends this process without waiting for anyone.

    After a failure other ranks may be blocked in a collective, and an orderly exit would wait for them.
    """
    if "KRONOS_CAUSE_DIR" in os.environ:
        (Path(os.environ["KRONOS_CAUSE_DIR"]) / f"rank-{os.environ.get('RANK', '0')}").write_text(str(int(code)))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    if sys.argv[1:2] == ["launch"]:
        from kronos_trainer.launch import main as launch

        sys.exit(launch(sys.argv[2:]))
    end(main(sys.argv[1:]))
