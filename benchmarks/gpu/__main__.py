"""`python -m benchmarks.gpu`: every section in a process of its own with a time limit, then one table.

A device-side assertion or a hang costs one section. What is known is in gpu.json after each.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu import card, generation, steps, whole
from benchmarks.gpu.place import SMALL, Results

# What a section does, the seconds that it may take, and the fewest for which it is worth starting; in order of worth.
SECTIONS: Mapping[str, tuple[Callable[[Results], None], int, int]] = {
    "card": (card.card, 30, 5),
    "tests": (card.tests, 130, 30),
    "mini": (functools.partial(steps.predictor, "mini", compiled=True), 100, 30),
    "small": (functools.partial(steps.predictor, "small", compiled=False), 70, 30),
    "tokenizer": (steps.tokenizer, 40, 20),
    "base": (functools.partial(steps.predictor, "base", compiled=False), 60, 25),
    "generation": (generation.generation, 60, 20),
    "run": (whole.run, 60, 30),
    "packing": (whole.packing, 120, 60),
}


def main() -> int:
    """Runs the sections and prints the table. Returns 1 if a section failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--seconds", type=int, default=470, help="in all; sections for which none are left are skipped")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")), help="where gpu.json is written")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"unknown section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if options.inside is not None:
        SECTIONS[options.sections[0]][0](Results(options.inside))
        return 0
    if SMALL:
        print("No GPU: everything is run small and on the CPU, and its figures say nothing.", flush=True)
    # All sizes are tiny there: one is enough.
    default = [name for name in SECTIONS if not SMALL or name not in ("small", "base")]
    return _all(options.sections or default, options.seconds, options.out / "gpu.json")


def _all(names: list[str], seconds: int, file: Path) -> int:
    began = time.monotonic()
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        _, limit, least = SECTIONS[name]
        left = seconds - (time.monotonic() - began)
        if left < least and not SMALL:
            found[name] = {"skipped": f"{left:.0f} s left"}
            continue
        print(f"== {name}, at {time.monotonic() - began:.0f} s", flush=True)
        found[name] = _section(name, 600 if SMALL else min(limit, left))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=1))
    print(f"\n{table(found)}\n\n{file}: all of it, as JSON; {time.monotonic() - began:.0f} s")
    return int(any(_failed(section) for section in found.values()))


def _section(name: str, limit: float) -> dict[str, Any]:
    place = tempfile.mkdtemp(prefix="kronos-gpu-")
    try:
        part = Path(place) / "part.json"
        command = [sys.executable, "-m", "benchmarks.gpu", name, "--inside", str(part)]
        try:
            environment = os.environ | {"TMPDIR": place} | ({"OMP_NUM_THREADS": "1"} if SMALL else {})
            code = subprocess.run(command, timeout=limit, env=environment).returncode
            ended = {} if code == 0 else {"failed": f"exit code {code}"}
        except subprocess.TimeoutExpired:
            ended = {"failed": f"not done after {limit:.0f} s"}
        return (json.loads(part.read_text()) if part.exists() else {}) | ended
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _failed(section: Mapping[str, Any]) -> bool:
    return "failed" in section or any(isinstance(value, dict) and "failed" in value for value in section.values())


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What was found, a line each, for people."""
    columns = ("ms", "host ms", "windows/s", "x", "GiB")
    lines = [f"{'':62}" + "".join(f"{column:>11}" for column in columns)]
    for name, section in found.items():
        for what, value in section.items():
            if isinstance(value, dict) and ("ms" in value or "windows/s" in value):
                cells = "".join(f"{value.get(column, ''):>11}" for column in columns)
                lines.append(f"{what:62}{cells}")
            else:
                shown = value if isinstance(value, str) else json.dumps(value)
                lines.append(f"{what if what not in ('failed', 'skipped') else f'{name} {what}':62}{shown:>11}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
