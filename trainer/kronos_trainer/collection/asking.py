"""Asks whoever sits at the terminal."""

from __future__ import annotations

import sys

from kronos_trainer.errors import ConfigError


def agreed(question: str) -> bool:
    """Whether the answer is yes. Raises ConfigError where there is no terminal to ask on."""
    if not sys.stdin.isatty():
        raise ConfigError("no terminal to ask on, so nothing was removed; --yes does it without asking")
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
