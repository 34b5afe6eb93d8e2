"""Rows that have no bar but are not errors; called by the readers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos_trainer.data.reading.columns import FEATURES, normalised

_NOTHING = ("0", "0.0")
_WORDS = r"^#|[^\W\d]{4,}.*[^\W\d]{4,}"  # of a comment or a disclaimer, which may well hold a year
_EVENT = r"(?i)dividend|split|distribution"  # Yahoo: '0.24 Dividend' in place of the prices


def no_bars(cells: pd.DataFrame, header: Mapping[str, str]) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Kinds of rows that are left out, and which of the rows are of them; no row is of two kinds.

    Each kind is reported by its name.
    `cells` are rows as text under canonical names, "" where there is nothing; `header` has the file's own names.
    """
    blank = (cells.drop(columns=["symbol", "clock"], errors="ignore") == "").all(axis=1).to_numpy()
    yield "empty lines skipped", blank
    own = {name: normalised(text) for name, text in header.items() if normalised(text)}
    again = np.logical_and.reduce([(cells[name].map(normalised) == key).to_numpy() for name, key in own.items()])
    yield "repeated headers skipped", again
    prices = cells[list(FEATURES[:4])]
    unpriced = np.logical_and.reduce([~prices[name].str.contains(r"\d", regex=True).to_numpy() for name in prices])
    none: npt.NDArray[np.bool_] = unpriced
    if "volume" in cells:
        none = unpriced & (cells["volume"].isin(_NOTHING) | ~cells["volume"].str.contains(r"\d", regex=True)).to_numpy()
    stamp = cells["timestamps"]
    stamped = stamp.str.contains(r"\d", regex=True).to_numpy() & ~stamp.str.contains(_WORDS, regex=True).to_numpy()
    yield "lines without a bar (comment, title or footer) skipped", unpriced & ~stamped & ~again & ~blank
    yield "rows with a timestamp but no price (unfinished, or no trade) skipped", none & stamped & ~again
    events = np.logical_or.reduce([prices[name].str.contains(_EVENT, regex=True).to_numpy() for name in prices])
    yield "rows of dividends and splits skipped", events & ~unpriced & ~again
