"""Libraries that take seconds to import are imported where they are used: help and mistakes answer at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = frozenset({"torch", "pandas", "numpy", "pyarrow"})
STATISTICS = ("scipy", "scoringrules", "statsmodels", "arch", "matplotlib", "bt")
MODEL = Path(__file__).parents[2] / "manifests" / "examples" / "try_me.yaml"
KRONOS = "import sys; from kronos_operator.cli import main; sys.exit(main(sys.argv[1:]))"
FORECAST = ["forecast", "--input", "{bars}", "--output", "out.csv", "--horizon", "3", "--predictor", "p"]


def imported(directory: Path, *command: str) -> tuple[int, frozenset[str]]:
    """The exit code, and which heavy libraries the command and its children have begun to import."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from kronos_operator.cli import main; sys.exit(main(sys.argv[1:]))",
            *command,
        ],
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
    )
    names = re.findall(r"^import time: .*\|\s+(\w+)", done.stderr, re.MULTILINE)
    assert "kronos_operator" in names
    return done.returncode, HEAVY.intersection(names)


COMMANDS = {
    "help": (["--help"], 0),
    "validate": (["validate", "-f", str(MODEL)], 0),
    "data": (["data", "--help"], 0),
    "data check of no file": (["data", "check", "absent", "--timeframe", "1d"], 66),
    "data check of no timeframe": (["data", "check", "{bars}"], 64),
    "report": (["report", "--help"], 0),
    "report of nothing": (["report"], 64),
    "report of no model": (["report", "m"], 66),
    "backtest": (["backtest", "--help"], 0),
    "backtest of nothing": (["backtest"], 64),
    "backtest of no model": (["backtest", "m"], 66),
    "forecast": (["forecast", "--help"], 0),
    "temperature 0": ([*FORECAST, "--tokenizer", "t", "--temperature", "0"], 64),
    "horizon 0": ([*FORECAST, "--tokenizer", "t", "--horizon", "0"], 64),
    "unknown device": ([*FORECAST, "--tokenizer", "t", "--device", "tpu"], 64),
    "one half of the weights": (FORECAST, 64),
    "absent input": ([*FORECAST, "--tokenizer", "t", "--input", "absent.csv"], 66),
    "absent future": ([*FORECAST, "--tokenizer", "t", "--future", "absent.csv"], 66),
    "absent weights": ([*FORECAST, "--tokenizer", "t"], 66),
    "promote": (["promote", "m"], 66),
    "rollback": (["rollback", "m"], 66),
    "unknown model": (["forecast", "--input", "{bars}", "--output", "out.csv", "--model", "m"], 66),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_mistakes_import_no_library_of_the_trainer(name: str, bars_file: Path, tmp_path: Path) -> None:
    command, code = COMMANDS[name]
    assert imported(tmp_path, *(word.format(bars=bars_file) for word in command)) == (code, frozenset())


def test_bars_are_checked_without_torch(bars_file: Path, tmp_path: Path) -> None:
    command = ["data", "check", str(bars_file), "--timeframe", "1d", "--lookback", "10", "--horizon", "2"]
    assert imported(tmp_path, *command) == (0, HEAVY - {"torch"})


def test_a_rank_that_trains_imports_no_statistics() -> None:
    code = f"import sys, kronos_trainer.training.train; print([n for n in {STATISTICS} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
