"""A shell as a reader of the documentation has it, for the lines that a test quotes from a page.

operator/test_docs_blocks.py compares them with the page.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Shell:
    """Bash in a checkout, with `kronos`, kubectl and helm, and a kubeconfig of its own that it may change."""

    kubeconfig: Path
    binaries: tuple[Path, ...]  # directories
    directory: Path = REPOSITORY

    @classmethod
    def of(
        cls,
        cluster: Path,
        binaries: Iterable[Path],
        own: Path,
        *,
        namespace: str = "default",
        directory: Path = REPOSITORY,
    ) -> Self:
        """Copies the kubeconfig of a cluster to `own`, with this namespace in its only context."""
        config = yaml.safe_load(cluster.read_text())
        (context,) = config["contexts"]
        context["context"]["namespace"] = namespace
        own.write_text(yaml.safe_dump(config))
        return cls(own, tuple(binaries), directory)

    def __call__(self, script: str, *, seconds: float = 600) -> str:
        """What the script prints, on both streams. AssertionError with that if one of its commands fails."""
        done = subprocess.run(
            self._bash(script),
            cwd=self.directory,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def start(self, command: str) -> subprocess.Popen[str]:
        """Starts a command that goes on until it is killed; its output is `stdout`."""
        return subprocess.Popen(
            self._bash(f"exec {command}"),
            cwd=self.directory,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _bash(self, script: str) -> list[str]:
        return ["bash", "-euo", "pipefail", "-c", script]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KRONOS_")}
        places = [Path(sys.executable).parent, *self.binaries, kept["PATH"]]
        return kept | {"PATH": os.pathsep.join(map(str, places)), "KUBECONFIG": str(self.kubeconfig)}
