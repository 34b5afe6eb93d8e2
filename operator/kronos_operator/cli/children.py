"""Child processes of the commands: the trainer's own tools, and probes of libraries that are never imported here."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from kronos_operator.cli.failure import Failure

TRAINER_INSTALL = "pip install 'kronos-operator[trainer]'"


def run_tool(module: str, arguments: Sequence[str], *, needs: Sequence[str]) -> int:
    """Run `python -m module` in the foreground and return its exit code (128 + signal if one ended it).

    Raises Failure (78), naming the extra to install, when a library in `needs` is absent.
    """
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    if missing:
        from kronos_trainer.config import ExitCode

        raise Failure(
            f"this command needs {', '.join(missing)} from the trainer extra: {TRAINER_INSTALL}", ExitCode.ENVIRONMENT
        )
    child = subprocess.Popen([sys.executable, "-m", module, *arguments])
    while True:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            continue  # the terminal sent Ctrl-C to the child as well: its answer counts
        return code if code >= 0 else 128 - code


def ask(script: str, *arguments: str, seconds: float) -> dict[str, Any]:
    """The JSON object that a Python script prints last; `{"error": ...}` when it fails or takes too long."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {seconds:g} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        reason = done.stderr.strip().splitlines()
        return {"error": reason[-1] if reason else f"ended with exit code {done.returncode}"}
    answer = json.loads(lines[-1])
    assert isinstance(answer, dict)
    return answer


def flags(options: Mapping[str, object]) -> list[str]:
    """Options as a command line writes them; those that are None or False are left out."""
    arguments = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            arguments.append(flag)
        elif value is not None and value is not False:
            arguments += [flag, str(value)]
    return arguments
