"""Instants -> wall-clock time; called wherever timestamps with a time zone are read."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos_trainer.errors import ConfigError

Int64 = npt.NDArray[np.int64]

DAY = 86_400_000_000_000
SATURDAY = 5

# Where most bars come from: of zones that fit equally well, one of these is the likeliest.
_EXCHANGES = (
    *("Asia/Shanghai", "Asia/Tokyo", "Asia/Kolkata", "Asia/Jakarta", "Europe/Moscow", "Australia/Sydney"),
    *("Europe/Berlin", "Europe/London", "Europe/Athens", "America/New_York", "America/Chicago", "America/Sao_Paulo"),
)


def check_zone(name: str | None) -> None:
    """Raise ConfigError unless `name` is None or a known IANA time zone."""
    if name is None:
        return
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"data.timeZone: {name!r} is not an IANA time zone; use e.g. America/New_York") from None


def local_times(instants: Int64, zone: str | None) -> Int64:
    """Wall-clock nanoseconds in `zone` (UTC if None) of UTC instants."""
    index = pd.DatetimeIndex(instants.view("datetime64[ns]")).tz_localize("UTC").tz_convert(zone or "UTC")
    return index.tz_localize(None).as_unit("ns").asi8


def midnight_zone(instants: Int64, *, written: bool) -> str | None:
    """The zone, other than UTC, of whose days all UTC instants are the beginning; None if there is no such zone.

    Such stamps are dates. `written`: the file itself writes them as midnights. Where it does not (epoch numbers, or
    16:00Z), the zone must make business days of days with weekends among them.
    """
    if len(instants) == 0 or (instants % DAY == 0).all():
        return None
    few = instants[[0, len(instants) // 2, -1]]
    for zone in _likely() if written else _EXCHANGES:
        if not (local_times(few, zone) % DAY == 0).all():
            continue
        times = local_times(instants, zone)
        if (times % DAY == 0).all() and (written or (_weekends(instants) and not _weekends(times))):
            return zone
    return None


def _likely() -> Iterator[str]:
    yield from _EXCHANGES
    yield from sorted(zoneinfo.available_timezones() - set(_EXCHANGES))


def _weekends(times: Int64) -> bool:
    return bool(((times // DAY + 3) % 7 >= SATURDAY).any())
