"""What a run has come to, for people: report.html, a text for terminals, and report.json with the same facts."""

from __future__ import annotations

from pathlib import Path

from kronos_trainer.config import RunConfig, RunPaths


def write(run: RunConfig, paths: RunPaths, failure: str | None = None) -> tuple[Path, ...]:
    """Replaces the reports of a run and returns their files, report.html first.

    `failure` is why the stage of `run` has just ended without a result. The same files have the same reports. Raises
    StorageError.
    """
    from kronos_trainer.report.writing import write_reports  # Matplotlib takes its time

    return write_reports(run, paths, failure)
