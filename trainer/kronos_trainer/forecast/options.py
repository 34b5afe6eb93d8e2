"""What the options of the forecast command may be; known without torch and pandas."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from kronos_trainer.arguments import Arguments, add_options
from kronos_trainer.commands import FORECAST_OPTIONS


def parser() -> Arguments:
    parser = Arguments(prog="kronos forecast", description="Predict the bars after a history.", allow_abbrev=False)
    add_options(parser, FORECAST_OPTIONS, {"quantiles": _quantiles, "device": _device})
    root = os.environ.get("KRONOS_OUTPUT_PATH")
    if root is not None:
        parser.set_defaults(root=Path(root))
    return parser


def _quantiles(text: str) -> tuple[float, ...]:
    try:
        return tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers between 0 and 1, as 0.05,0.5,0.95") from None


def _device(text: str) -> str:
    """One of the choices, or one GPU of several."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r}: choose auto, cpu, cuda, or cuda:N")
    return text
