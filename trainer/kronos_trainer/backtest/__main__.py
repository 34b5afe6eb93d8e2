"""The command: `python -m kronos_trainer.backtest NAME [--strategy top-k | long-flat | long-short]`.

A mistake that shows without pandas is reported before it is imported.
"""

from __future__ import annotations

import os
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from kronos_trainer.arguments import Arguments, add_options
from kronos_trainer.commands import BACKTEST_OPTIONS
from kronos_trainer.config import Backtest, ExitCode, RunConfig, RunPaths, StagePaths, load_run
from kronos_trainer.config import Evaluation as Settings
from kronos_trainer.errors import ConfigError, InputMissing, TrainerError
from kronos_trainer.report import showing
from kronos_trainer.stages import StageName


def main(arguments: Sequence[str] | None = None) -> int:
    """Trades as it is told and returns the exit code; a failure is one line on standard error."""
    parser = Arguments(
        prog="kronos backtest", description="Trade on the forecasts of a model's evaluation.", allow_abbrev=False
    )
    add_options(parser, BACKTEST_OPTIONS)
    if (root := os.environ.get("KRONOS_OUTPUT_PATH")) is not None:
        parser.set_defaults(root=Path(root))
    options = parser.parse_args(arguments)
    try:
        if options.name is None:
            raise ConfigError("name a model")
        paths = showing.find(options.root, options.namespace, options.name, options.run)
        files = _evaluated(paths)
        _show(options, paths, files, load_run(files.config))
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ValueError as error:  # of run.json
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.CONFIG
    except BrokenPipeError:  # the reader has closed the pipe, like `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.DONE


def _evaluated(paths: RunPaths) -> StagePaths:
    """The files of the stage that has judged a run. Raises InputMissing where none has, or has kept no signals."""
    found = [files for stage in StageName if (files := paths.stage(stage)).evaluation.exists()]
    if not found or found[-1].completed() is None:
        raise InputMissing(
            f"run {paths.run_dir.name} has no finished evaluation, whose forecasts a backtest trades on; finish it "
            "with `kronos run`, or name another run with --run"
        )
    if not found[-1].signals.exists():
        raise InputMissing(
            f"run {paths.run_dir.name} was evaluated by an older release, which kept no signals: remove "
            f"{found[-1].result} and repeat `kronos run`, which evaluates it again and trains nothing"
        )
    return found[-1]


def _settings(options: Namespace, run: RunConfig) -> Backtest:
    """What was given, and for the rest the run's own; of another strategy than the run's, the defaults."""
    names = ("strategy", "top_k", "drop_out", "cost_bps", "slippage_bps")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    evaluation = run.settings(Settings)
    own = None if evaluation is None else evaluation.backtest
    base = {} if own is None else own.model_dump(exclude_unset=True)
    if given.get("strategy", base.get("strategy")) != base.get("strategy"):
        base = {name: value for name, value in base.items() if name.endswith("_bps")}
    try:
        return Backtest(**base | given)
    except ValidationError as error:
        said = [": ".join([*map(to_camel, map(str, one["loc"])), one["msg"]]) for one in error.errors()]
        raise ConfigError("; ".join(said)) from None


def _show(options: Namespace, paths: RunPaths, files: StagePaths, run: RunConfig) -> None:
    settings = _settings(options, run)

    from kronos_trainer.backtest.running import traded
    from kronos_trainer.backtest.text import lines
    from kronos_trainer.backtest.writing import write
    from kronos_trainer.data.bars import prepare_bars
    from kronos_trainer.data.fetch import fetch_bars
    from kronos_trainer.evaluation.document import Evaluation
    from kronos_trainer.evaluation.signals import Signals
    from kronos_trainer.storage.stores import is_uri

    signals = Signals.load(files.signals)
    result = files.completed()
    if result is None or result.hash != signals.hash:
        raise InputMissing(f"{files.signals} is not of the evaluation that has ended: repeat `kronos run`")
    try:
        judged = Evaluation.load(files.evaluation.read_text())
    except (OSError, ValueError) as error:
        raise InputMissing(
            f"{files.evaluation}: damaged ({error}); remove {files.result} and repeat `kronos run`"
        ) from None
    cache = Path(tempfile.gettempdir()) / f"kronos-{os.getuid()}" / "bars"
    source = run.bars if options.bars is None else str(options.bars)
    place = fetch_bars(source, cache, lambda: None) if is_uri(source) else Path(source)
    bars = prepare_bars(place, run.timeframe, run.data, cache).open()
    found = traded(run, paths, bars, signals, judged, settings)
    file = write(paths.backtest, found)
    print(lines(found.summary))
    showing.present(file, browse=options.open)


if __name__ == "__main__":
    sys.exit(main())
