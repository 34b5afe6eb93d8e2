"""Which column of a file is which field of a bar; called by the readers."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from kronos_trainer.errors import DataError

FEATURES = ("open", "high", "low", "close", "volume", "amount")
REQUIRED = ("timestamps", "open", "high", "low", "close")

# The first alias that a file has is taken; the last two of timestamps are what pandas calls an index without a name.
ALIASES: dict[str, tuple[str, ...]] = {
    "timestamps": (
        *("timestamps", "timestamp", "datetime", "date_time", "date", "time", "open_time", "ts", "dt"),
        *("trade_time", "trade_date", "trading_date", "index", "__index_level_0__", ""),
    ),
    "open": ("open", "o", "open_price", "opening_price"),
    "high": ("high", "h", "high_price", "max"),
    "low": ("low", "l", "low_price", "min"),
    "close": ("close", "c", "close_price", "closing_price", "last"),
    "volume": ("volume", "vol", "v", "tick_volume", "tickvol", "base_volume"),
    "amount": ("amount", "amt", "turnover", "quote_volume", "quote_asset_volume", "money"),
    "symbol": ("symbol", "ticker", "instrument", "code", "ts_code", "sym"),
}


def normalised(name: str) -> str:
    """A column name without case, spaces and the angle brackets of MetaTrader exports."""
    return name.strip().strip("<>").strip().lower().replace(" ", "_").replace("-", "_")


def resolve(header: Sequence[str], file: Path) -> dict[str, str]:
    """Canonical name -> the file's own name, for every field that the file has.

    Raises DataError for a missing or doubled column.
    """
    names: dict[str, str] = {}
    doubled: dict[str, tuple[str, str]] = {}
    for name in header:
        key = normalised(name)
        if key in names:
            doubled[key] = (names[key], name)
        names.setdefault(key, name)
    found: dict[str, str] = {}
    for field, aliases in ALIASES.items():
        for alias in aliases:
            if alias in doubled:
                first, second = doubled[alias]
                raise DataError(f"{file}: two columns for {field}: {first!r} and {second!r}; keep one")
            if alias in names:
                found[field] = names[alias]
                break
    # MetaTrader writes the day and the time of day as two columns
    if normalised(found.get("timestamps", "")) == "date" and "time" in names:
        found["clock"] = names["time"]
    missing = [field for field in REQUIRED if field not in found]
    if missing:
        raise DataError(f"{file}: {_explain(missing, [name for name in header if name not in found.values()], header)}")
    return found


def rivals(header: Sequence[str], found: dict[str, str]) -> dict[str, list[str]]:
    """Further columns for a price, the volume or the amount, in the order of preference, beside the one in `found`.

    MetaTrader writes <VOL>, which is 0 where the broker does not know it, beside <TICKVOL>.
    """
    names = {normalised(name): name for name in header}
    further = {
        field: [names[alias] for alias in ALIASES[field] if alias in names and names[alias] != found[field]]
        for field in FEATURES
        if field in found
    }
    return {field: others for field, others in further.items() if others}


def name_column(header: Sequence[str]) -> str | None:
    """A column `name`: in some files the symbol, in others a company's name, which may change."""
    return next((name for name in header if normalised(name) == "name"), None)


def _explain(missing: list[str], unused: list[str], header: Sequence[str]) -> str:
    hints = []
    for field in missing:
        near = difflib.get_close_matches(field, [normalised(name) for name in unused], n=1, cutoff=0.6)
        hints += [f"; is {name!r} meant as {field}?" for name in unused if near and normalised(name) == near[0]][:1]
    shown = ", ".join(map(repr, header[:12])) + (", ..." if len(header) > 12 else "")
    return f"no column for {', '.join(missing)}; the header has {shown or 'nothing'}{''.join(hints)}"
