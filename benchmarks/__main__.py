"""`python -m benchmarks [data_path|training|generation|evaluate|memory ...]`: all of them, or those named."""

from __future__ import annotations

import os
import platform
import sys

import torch

from benchmarks import data_path, evaluate, generation, memory, training

SECTIONS = {
    "data_path": data_path.run,
    "training": training.run,
    "generation": generation.run,
    "evaluate": evaluate.run,
    "memory": memory.run,
}


def main(names: list[str]) -> None:
    """Runs the sections and prints their tables."""
    unknown = set(names) - set(SECTIONS)
    if unknown:
        sys.exit(f"unknown benchmark {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    print("xN: upstream's time / ours, median of rounds in which both take turns (smallest-largest)")
    for name, section in SECTIONS.items():
        if not names or name in names:
            section()


if __name__ == "__main__":
    main(sys.argv[1:])
