"""The options that `kronos forecast` and `kronos data` declare are those that the trainer's own commands read."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable

import pytest

from kronos_operator.cli import data, forecast, main
from kronos_trainer.data import __main__ as trainer_data
from kronos_trainer.forecast.options import parser as forecast_parser


def declared(command: Callable[..., None]) -> set[str]:
    """Names of the command's options and arguments, as Python spells them."""
    return {name.removeprefix("as_") for name in inspect.signature(command).parameters if name != "context"}


def read(parser: argparse.ArgumentParser) -> set[str]:
    return {action.dest for action in parser._actions if action.dest != "help"}


def test_forecast_passes_every_option_on() -> None:
    assert declared(forecast.forecast) - forecast.OF_CLUSTER == read(forecast_parser())


@pytest.mark.parametrize(
    ("name", "command"), [("sample", data.sample), ("import", data.import_), ("check", data.check)]
)
def test_data_passes_every_option_on(name: str, command: Callable[..., None]) -> None:
    (commands,) = (
        action for action in trainer_data._parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    assert declared(command) == read(commands.choices[name])


def test_the_child_ends_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "--timeframe", "1d", "--", "--absent.csv"]) == 66
    out, err = capfd.readouterr()
    assert out == ""
    assert "--absent.csv" in err
    assert err.startswith("error: ")
