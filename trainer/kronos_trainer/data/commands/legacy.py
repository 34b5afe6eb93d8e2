"""The pickled data sets that upstream's finetune scripts leave behind, as tables; read by `kronos data import` alone.

A pickle can run any code when loaded, so only the few constructors that pandas and numpy need are allowed.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from kronos_trainer.data.layouts.containers import Source
from kronos_trainer.data.layouts.tables import FrameTable
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
            raise pickle.UnpicklingError(f"it would call {module}.{name}, which a table of bars does not need")
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
            raise DataError(f"{path}: symbol {symbol}: the index is not a DatetimeIndex")
        if symbol in ("", ".", "..") or symbol.startswith((".", "_")) or not symbol.isprintable() or "/" in symbol:
            raise DataError(f"{path}: symbol {symbol!r} cannot be a file name")
    return content


def pickled(path: Path) -> Iterator[Source]:
    """The tables of an upstream pickle. Raises as `load_pickle`."""
    for symbol, frame in load_pickle(path).items():
        # the symbol as a column: train, validation and test sets overlap, and one symbol may come from all of them
        table = FrameTable(path, frame.rename_axis("timestamps").reset_index().assign(symbol=symbol), kind="pickle")
        yield Source(path, symbol, "pickle", lambda given, table=table: table)  # type: ignore[misc]
