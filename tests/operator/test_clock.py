"""Whose clock decides when the operator's own is wrong."""

from __future__ import annotations

import logging
from email.utils import formatdate

import pytest

from kronos_operator.kube.clock import ServerClock

T = 1_800_000_000.0


@pytest.mark.parametrize("off", [-86400.0, -600.0, 600.0])
def test_a_clock_that_is_minutes_off_is_corrected_by_the_servers_answers_and_trusted_again_when_it_is_right(
    off: float, caplog: pytest.LogCaptureFixture
) -> None:
    local = T + off
    clock = ServerClock(lambda: local)
    with caplog.at_level(logging.WARNING):
        for late in (0, 1, 25):  # an answer's date that is read late moves nothing
            clock.observe(formatdate(T - late, usegmt=True))
            assert clock.now() == pytest.approx(T, abs=1)
    side = "ahead of" if off > 0 else "behind"
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == f"this machine's clock is {abs(off):.0f} s {side} the API server's, which is used"
    local = T  # its time service has set it
    clock.observe(formatdate(T, usegmt=True))
    assert clock.now() == T


@pytest.mark.parametrize(
    "date", [None, "", "yesterday", "Mon, 99 Jan 2027 00:00:00 GMT", formatdate(T + 20, usegmt=True)]
)
def test_a_clock_that_is_seconds_off_or_an_answer_without_a_date_changes_nothing(date: str | None) -> None:
    clock = ServerClock(lambda: T)
    clock.observe(date)
    assert clock.now() == T
