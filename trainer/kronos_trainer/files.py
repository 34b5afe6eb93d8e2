"""Which files hold bars; called by the readers and for the digest of what was read."""

from __future__ import annotations

from pathlib import Path

from kronos_trainer.config import CSV_SUFFIXES, PARQUET_SUFFIXES, files_below, holds_bars
from kronos_trainer.errors import DataError, InputMissing
from kronos_trainer.findings import some


def bar_files(path: Path) -> list[Path]:
    """Every CSV and Parquet file at or under `path`, sorted; names that begin with a dot or underscore are left out.

    Raises InputMissing when the path is absent, DataError when it holds no such file.
    """
    suffixes = (*CSV_SUFFIXES, *PARQUET_SUFFIXES)
    if path.is_file():
        if not path.name.lower().endswith(suffixes):
            raise DataError(f"{path}: not a kind of file that holds bars; use one of {', '.join(suffixes)}")
        return [path]
    if not path.is_dir():
        raise InputMissing(f"{path}: no such file or directory of bars")
    seen = files_below(path)
    files = [file for file in seen if holds_bars(file.relative_to(path))]
    if not files:
        found = f"; found only {some([file.name for file in seen])}" if seen else "; it is empty"
        raise DataError(f"{path}: no bars here: a directory needs {', '.join(suffixes)} files{found}")
    return files
