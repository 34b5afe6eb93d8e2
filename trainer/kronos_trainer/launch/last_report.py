"""The report of a run that has failed, written by the first node's launcher once all of its ranks are gone."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from kronos_trainer import report
from kronos_trainer.config import RunConfig, RunPaths
from kronos_trainer.storage.lock import model_lock


def leave(run: RunConfig, message: str) -> None:
    """Writes why the run's stage has failed, unless a later attempt has taken over.

    Where that cannot be done a line on standard error says so, and nothing else happens: the failure itself counts.
    """
    try:
        _write(run, message)
    except Exception as error:
        print(f"note: the report of this failure could not be written: {error}", file=sys.stderr)


def _write(run: RunConfig, message: str) -> None:
    if "://" not in run.output:
        paths = run.paths()
        with model_lock(paths, run):
            _replace(run, paths, message)
        return
    from kronos_trainer.storage.mirror import Mirror  # with the libraries of stores

    mirror = Mirror(run, Path(tempfile.gettempdir()) / f"kronos-{os.getuid()}" / "outputs")
    with model_lock(mirror.paths, run):
        mirror.leave(_replace(run, mirror.paths, message))


def _replace(run: RunConfig, paths: RunPaths, message: str) -> tuple[Path, ...]:
    """The report's files; none where the stage itself is complete, whose own report the next attempt writes."""
    if paths.stage(run.stage).completed(run.stage_hashes[run.stage]) is not None:
        return ()
    return report.write(run, paths, message)
