"""What a training would find in a model's bars on this machine, by `kronos_trainer.data check`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kronos_operator.api import KronosModel


@dataclass(frozen=True, kw_only=True)
class BarsCheck:
    """The bars of one model, read as a training would."""

    refused: str | None  # why the training would end at once
    exit_code: int
    notes: tuple[str, ...]  # what is odd about them


def check_bars(model: KronosModel, bars: str) -> BarsCheck | None:
    """Reads the bars at a path; None where they are not here, or the trainer's libraries are not."""
    from kronos_operator.plan import StartAttempt
    from kronos_trainer.config import StageName

    if not Path(bars).exists() or not all(map(find_spec, ("pandas", "pyarrow"))):
        return None
    start = StartAttempt(
        run="check",
        stage=StageName.with_weights()[0],
        attempt=0,
        stage_hashes={},
        out_of_memory_restarts=0,
        publish=False,
    )
    with tempfile.TemporaryDirectory(prefix="kronos-check-") as directory:
        file = Path(directory) / "run.json"
        file.write_text(start.run_config(model, bars=bars, output=directory).dump())
        command = [sys.executable, "-m", "kronos_trainer.data", "check", "--run", str(file), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stderr.strip().splitlines()
    refused = lines[-1].removeprefix("error: ") if done.returncode and lines else None
    notes = json.loads(done.stdout)["notes"] if done.stdout else []
    return BarsCheck(refused=refused, exit_code=done.returncode, notes=tuple(notes))
