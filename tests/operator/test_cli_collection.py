"""`kronos compare`, `export`, `prune`, `backup` and `restore` as typed: what reaches the trainer's command, and that a
cluster is answered with what to do there."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kronos_operator.cli import collection as commands
from kronos_operator.cli import main
from kronos_trainer.collection import __main__ as collection

TYPED = {
    "compare a team/b@candidate --html": {"first": "a", "second": "team/b@candidate", "html": True, "json": False},
    "compare a b --json -n team --root s3://bucket/x": {"json": True, "namespace": "team", "root": "s3://bucket/x"},
    "export a --to out": {"name": "a", "to": "out", "run": "published", "licence": None, "public": False},
    "export a --to hf://me/a --run r1 --licence mit --public": {"to": "hf://me/a", "run": "r1", "public": True},
    "prune a --keep 3 -y": {"name": "a", "keep": 3, "yes": True, "root": "outputs"},
    "backup --to all.tar": {"name": None, "to": Path("all.tar")},
    "backup a --to all.tar --namespace team": {"name": "a", "namespace": "team"},
    "restore all.tar --root there": {"archive": Path("all.tar"), "root": "there"},
}


@pytest.mark.parametrize("line", TYPED)
def test_what_is_typed_reaches_the_trainers_command(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KRONOS_OUTPUT_PATH", raising=False)
    started: list[argparse.Namespace] = []

    def run_tool(module: str, arguments: Sequence[str], **needs: Any) -> int:
        assert module == "kronos_trainer.collection"
        started.append(collection._parser().parse_args(arguments))
        return 65

    monkeypatch.setattr(commands, "run_tool", run_tool)
    assert main(line.split()) == 65
    assert vars(started[0]).items() >= TYPED[line].items()
    command = line.split()[0]
    assert started[0].command is getattr(collection, f"_{command}")
    for options in (["--cluster"], ["--context", "west"], ["--kubeconfig", "config"]):
        assert main([*line.split(), *options]) == 64
        assert "kronos pull NAME --to DIR" in capsys.readouterr().err
    assert len(started) == 1


def test_the_environment_names_the_output_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRONOS_OUTPUT_PATH", "kept")
    assert collection._parser().parse_args(["prune", "a", "--keep", "1"]).root == "kept"
    assert collection._parser().parse_args(["prune", "a", "--keep", "1", "--root", "x"]).root == "x"
