"""Sessions and hours of exchanges, against days that are known."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from kronos_trainer.data import calendars
from kronos_trainer.errors import BadEnvironment, ConfigError, DataError


def test_sessions_leave_holidays_out_and_include_both_ends() -> None:
    assert calendars.sessions("XNYS", "2024-12-24", "2024-12-26").astype(str).tolist() == ["2024-12-24", "2024-12-26"]
    assert len(calendars.sessions("XSHG", "2024-10-01", "2024-10-07")) == 0
    assert len(calendars.sessions("24/7", "2024-02-01", "2024-02-29")) == 29
    assert len(calendars.sessions("XNYS", "2024-12-26", "2024-12-24")) == 0


def test_hours_have_breaks_and_early_closes() -> None:
    hong_kong = calendars.hours("XHKG", "2024-12-23", "2024-12-24")  # no afternoon on the last day before Christmas
    local = lambda instants: (instants.view("datetime64[ns]") + np.timedelta64(8, "h")).astype("datetime64[m]")  # noqa: E731
    assert hong_kong.dates.astype(str).tolist() == ["2024-12-23", "2024-12-23", "2024-12-24"]
    opens = ["2024-12-23T09:30", "2024-12-23T13:00", "2024-12-24T09:30"]
    closes = ["2024-12-23T12:00", "2024-12-23T16:00", "2024-12-24T12:00"]
    assert local(hong_kong.opens).astype(str).tolist() == opens
    assert local(hong_kong.closes).astype(str).tolist() == closes
    assert calendars.zone("XHKG") == "Asia/Hong_Kong"


def test_what_is_not_known_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="'XNYX'; did you mean XNYS"):
        calendars.check_calendar("XNYX")
    with pytest.raises(ConfigError, match="'\\?'; an exchange's MIC"):
        calendars.check_calendar("?")
    end = calendars.known_until("XSHG")
    assert end is not None and calendars.known_until("XNYS") is None
    with pytest.raises(DataError, match=rf"calendar XSHG: .* to {end}.*--future"):
        calendars.sessions("XSHG", end - 10, end + 10)
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    with pytest.raises(BadEnvironment, match="pip install exchange_calendars"):
        calendars.check_calendar("XNYS")
    calendars.check_calendar(None)
