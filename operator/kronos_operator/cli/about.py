"""`kronos crd` and `kronos version`: what this installation is."""

from __future__ import annotations

import typer

from kronos_operator.cli.terminal import print_line


def crd() -> None:
    """Print the CustomResourceDefinition of KronosModel, for kubectl apply --server-side -f -."""
    from kronos_operator.crd import crd_yaml

    print(crd_yaml(), end="")


def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    print_line(f"kronos-operator {installed('kronos-operator')}")


def show_version(wanted: bool) -> None:
    """The option `--version`."""
    if wanted:
        version()
        raise typer.Exit
