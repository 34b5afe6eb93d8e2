"""Spans of time as the CLI and `status` print them."""

from __future__ import annotations

from kronos_operator.durations import duration, round_duration


def test_spans_in_the_cli_have_two_units_of_one_width() -> None:
    spans = {0.4: "0s", 59.6: "1m00s", 245: "4m05s", 7980: "2h13m", 273600: "3d04h"}
    assert {seconds: duration(seconds) for seconds in spans} == spans
    assert duration(None) == duration(float("inf")) == "-"


def test_spans_in_status_have_as_few_units_as_do() -> None:
    spans = {45: "45s", 780: "13m", 7980: "2h13m", 200000: "2d7h", -1: "0s"}
    assert {seconds: round_duration(seconds) for seconds in spans} == spans
