"""The `kronos` command line."""

from kronos_operator.cli.app import app, main

__all__ = ["app", "main"]
