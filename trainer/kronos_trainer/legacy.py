"""Import of the pickled data sets that upstream's finetune scripts leave behind; called by `kronos data import`.

A pickle may run any code when it is loaded, so only the few constructors that pandas and numpy need are let through.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from kronos_trainer.columns import resolve
from kronos_trainer.durable import write_file
from kronos_trainer.errors import DataError, InputMissing

# What pandas 1.5 to 3 write into the pickle of a frame of numbers with a time index; each builds data and does no more.
ALLOWED = {
    "pandas": {"DataFrame", "DatetimeIndex", "Index", "RangeIndex", "StringDtype"},
    "pandas.arrays": {"ArrowStringArray", "DatetimeArray"},
    "pandas.core.frame": {"DataFrame"},
    "pandas.core.internals.managers": {"BlockManager"},
    "pandas.core.indexes.base": {"Index", "_new_Index"},
    "pandas.core.indexes.datetimes": {"DatetimeIndex", "_new_DatetimeIndex"},
    "pandas.core.arrays.datetimes": {"DatetimeArray"},
    "pandas.core.arrays.string_": {"StringDtype"},
    "pandas.core.arrays.string_arrow": {"ArrowStringArray"},
    "pandas._libs.arrays": {"__pyx_unpickle_NDArrayBacked"},
    "pandas._libs.internals": {"_unpickle_block"},
    "pandas._libs.tslibs.offsets": {"BusinessDay", "Day", "Hour", "Minute"},
    "numpy": {"dtype", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
    "pyarrow.lib": {"_restore_array", "py_buffer", "type_for_alias"},
    "builtins": {"bytearray", "slice"},
    "datetime": {"timedelta"},
    "_codecs": {"encode"},
}
RENAMED = {
    "__builtin__": "builtins",
    "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = RENAMED.get(module, module)
        if name not in ALLOWED.get(module, ()):
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}, which no table of bars needs")
        return super().find_class(module, name)


def load_pickle(path: Path) -> dict[str, pd.DataFrame]:
    """The frames of an upstream train_data.pkl, by symbol. Raises DataError for anything else, running none of it."""
    try:
        with path.open("rb") as stream:
            content = _Restricted(stream).load()
    except FileNotFoundError:
        raise InputMissing(f"{path}: no such file") from None
    except Exception as error:  # a broken pickle can raise anything
        raise DataError(f"{path}: not a data set of upstream's finetune scripts: {error}") from None
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: holds {type(content).__name__}, not a dict of symbol to DataFrame")
    for symbol, frame in content.items():
        if not isinstance(symbol, str) or not isinstance(frame, pd.DataFrame):
            raise DataError(f"{path}: {symbol!r} is {type(frame).__name__}, not a DataFrame of bars")
        if not isinstance(frame.index, pd.DatetimeIndex):
            raise DataError(f"{path}: symbol {symbol}: the index is no DatetimeIndex")
        if symbol in ("", ".", "..") or symbol.startswith((".", "_")) or not symbol.isprintable() or "/" in symbol:
            raise DataError(f"{path}: symbol {symbol!r} cannot be a file name")
    return content


def import_pickles(paths: Sequence[Path], out: Path, kind: Literal["parquet", "csv"]) -> dict[str, int]:
    """Write one file of bars per symbol of all pickles together under `out`; rows per symbol are returned.

    Upstream's train, validation and test sets overlap in time: rows that agree are kept once, rows that differ are
    refused. Raises DataError, InputMissing, StorageError.
    """
    frames: dict[str, list[pd.DataFrame]] = {}
    for path in paths:
        for symbol, frame in load_pickle(path).items():
            frame = frame.rename_axis("timestamps").reset_index()
            names = resolve([str(name) for name in frame.columns], path)
            kept = frame[[names[field] for field in names if field != "symbol"]]
            kept.columns = pd.Index([field for field in names if field != "symbol"])
            frames.setdefault(symbol, []).append(kept)
    rows = {}
    for symbol in sorted(frames):
        table = pd.concat(frames[symbol], ignore_index=True).drop_duplicates().sort_values("timestamps")
        repeated = table["timestamps"].duplicated()
        if repeated.any():
            stamp = table["timestamps"][repeated].iloc[0]
            raise DataError(f"symbol {symbol}: the pickles hold different bars for {stamp}; import them one by one")
        rows[symbol] = len(table)
        write = partial(table.to_parquet if kind == "parquet" else table.to_csv, index=False)
        write_file(out / f"{symbol}.{kind}", write)
    return rows
