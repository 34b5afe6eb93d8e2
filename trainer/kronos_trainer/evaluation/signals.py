"""signals.npz: what the run's own model expected at each date of its evaluation, for a backtest to trade on."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kronos_trainer.errors import InputMissing
from kronos_trainer.evaluation.cells import Floats, Int64
from kronos_trainer.storage import durable

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Signals:
    """D dates and N symbols. Times are wall-clock ns."""

    run: str
    hash: str  # of the stage that forecast
    digest: str  # of the bars
    horizon: int
    symbols: tuple[str, ...]
    times: Int64  # [D], ascending: the origins, whose close is the last thing that a signal knows
    expected: Floats  # [D, N]: mean over paths of 100 x log(last close of the horizon / close of the origin); or NaN

    def save(self, file: Path) -> None:
        """Replaces the file. Raises StorageError."""
        about = {
            "version": VERSION,
            "run": self.run,
            "hash": self.hash,
            "digest": self.digest,
            "horizon": self.horizon,
            "symbols": self.symbols,
        }
        content = io.BytesIO()
        np.savez(
            content,
            about=np.frombuffer(json.dumps(about).encode(), np.uint8),
            times=self.times,
            expected=self.expected,
        )
        durable.write_bytes(file, content.getvalue())

    @classmethod
    def load(cls, file: Path) -> Signals:
        """From a file. Raises InputMissing where it is damaged."""
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                about = json.loads(arrays["about"].tobytes())
                if about["version"] != VERSION:
                    raise ValueError(f"version {about['version']} is of another release")
                found = cls(
                    run=str(about["run"]),
                    hash=str(about["hash"]),
                    digest=str(about["digest"]),
                    horizon=int(about["horizon"]),
                    symbols=tuple(map(str, about["symbols"])),
                    times=np.asarray(arrays["times"], np.int64),
                    expected=np.asarray(arrays["expected"], np.float64),
                )
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise InputMissing(f"{file}: damaged ({error}); remove it and evaluate the run again") from None
        if found.expected.shape != (len(found.times), len(found.symbols)):
            raise InputMissing(f"{file}: damaged (shape {found.expected.shape}); remove it and evaluate the run again")
        return found
