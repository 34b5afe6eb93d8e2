"""What `kronos forecast` and `kronos data` are given reaches the trainer's own commands, which they start."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from kronos_operator.cli import data, forecast, main
from kronos_trainer.commands import CHECK_OPTIONS, FORECAST_OPTIONS, IMPORT_OPTIONS, SAMPLE_OPTIONS, Option
from kronos_trainer.data import __main__ as trainer_data
from kronos_trainer.forecast.options import parser as forecast_parser

TABLES: dict[str, tuple[list[str], tuple[Option, ...], Callable[[], argparse.ArgumentParser]]] = {
    "forecast": (["forecast"], FORECAST_OPTIONS, forecast_parser),
    "sample": (["data", "sample"], SAMPLE_OPTIONS, trainer_data._parser),
    "import": (["data", "import"], IMPORT_OPTIONS, trainer_data._parser),
    "check": (["data", "check"], CHECK_OPTIONS, trainer_data._parser),
}
PLAIN = {"quantiles": "0.1,0.9", "timeframe": "1d"}  # texts that the trainer itself reads
READ = {"quantiles": (0.1, 0.9)}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of the trainer that commands would have started."""
    lines: list[list[str]] = []

    def run_tool(module: str, arguments: Sequence[str], *, needs: Sequence[str]) -> int:
        lines.append(list(arguments))
        return 0

    monkeypatch.setattr(forecast, "run_tool", run_tool)
    monkeypatch.setattr(data, "run_tool", run_tool)
    return lines


def value_of(option: Option) -> Any:
    """A value that is not the default."""
    if option.choices:
        return option.choices[-1]
    return {str: PLAIN.get(option.name, "text"), Path: Path("some/file.png"), int: 7, float: 0.5}.get(option.kind)


@pytest.mark.parametrize("name", TABLES)
def test_every_option_reaches_the_trainer(name: str, started: list[list[str]]) -> None:
    command, options, parser = TABLES[name]
    given = {option.name: True if option.kind is bool else value_of(option) for option in options}
    line = [*command]
    for option in options:
        if option.kind is bool:
            line.append(option.flags[0])
        elif not option.positional:
            line += [option.flags[-1], str(given[option.name])]
    files = [str(given[option.name]) for option in options if option.positional]
    assert main([*line, *files]) == 0
    read = vars(parser().parse_args(started[0]))
    expected = {key: READ.get(key, value) for key, value in given.items()}
    assert {key: read[key] for key in given} == {
        key: [value] if key == "files" else value for key, value in expected.items()
    }


@pytest.mark.parametrize("name", TABLES)
def test_what_is_left_out_has_the_default_of_the_table(name: str, started: list[list[str]]) -> None:
    command, options, parser = TABLES[name]
    needed = [word for one in options if one.required for word in (one.flags[0], "some/file")]
    assert main([*command, *needed, *("bars.csv" for one in options if one.many)]) == 0
    read = vars(parser().parse_args(started[0]))
    for option in options:
        if not option.required and not option.many:
            assert read[option.name] == (False if option.kind is bool else option.default), option.name


def test_the_child_ends_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "--timeframe", "1d", "--", "--absent.csv"]) == 66
    out, err = capfd.readouterr()
    assert out == ""
    assert "--absent.csv" in err
    assert err.startswith("error: ")
