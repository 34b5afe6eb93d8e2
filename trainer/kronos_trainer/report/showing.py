"""Finds the report of a run on this machine and shows it: its path, in the browser, or as text. For `kronos report`."""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from kronos_trainer import report
from kronos_trainer.config import ModelRef, RunConfig, RunPaths, StageName, load_run
from kronos_trainer.errors import InputMissing
from kronos_trainer.storage.models import model_below


def find(root: Path, namespace: str | None, name: str, run: str | None) -> RunPaths:
    """The files of a run: of the latest one, unless one is named.

    Raises ConfigError for an impossible name or one that several namespaces have, InputMissing where no run is.
    """
    model = model_below(root, namespace, name)
    runs = latest_first(root, model)
    if not runs:
        raise InputMissing(
            f"no run of {model.key} is below {root}; set another --root, or fetch a cluster's model with "
            f"`kronos pull {name} --to {root}` first"
        )
    if run is None:
        return runs[0]
    for one in runs:
        if one.run_dir.name == run:
            return one
    raise InputMissing(f"{model.key} has no run {run} here; there are {', '.join(one.run_dir.name for one in runs)}")


def latest_first(root: Path, model: ModelRef) -> list[RunPaths]:
    """The runs of a model that have left anything, the one that was last written to first."""
    directory = RunPaths(root, model, run="").runs
    found = [RunPaths(root, model, path.name) for path in directory.glob("[!.]*") if path.is_dir()]
    written = [(last_written(paths), paths) for paths in found]
    return [paths for when, paths in sorted(written, key=lambda item: (-item[0], item[1].run_dir.name)) if when]


def last_written(paths: RunPaths) -> int:
    """When a run was last at work, in ns since 1970; 0 if it has left nothing that says so."""
    return max((path.stat().st_mtime_ns for path in _told(paths)), default=0)


def show(paths: RunPaths, *, text: bool, browse: bool) -> None:
    """Prints the path of report.html, which is written now where it is absent; or what is asked for instead.

    Raises InputMissing where there is neither a report nor what one is made of, StorageError.
    """
    if text:
        print(_text(paths), end="")
        return
    if not paths.report.exists():
        report.write(_config(paths), paths, _failure(paths))
    present(paths.report, browse=browse)


def show_all(root: Path, *, text: bool, browse: bool) -> None:
    """Writes the page of all models and prints its path, or what is asked for instead. Raises as `show` does."""
    from kronos_trainer.report import index  # with Jinja

    models = [ModelRef(namespace=path.parent.name, name=path.name) for path in sorted((root / "models").glob("*/*"))]
    rows = index.rows(root, [(model, runs[0]) for model in models if (runs := latest_first(root, model))])
    if not rows:
        raise InputMissing(f"no model is below {root}; train one with `kronos run`, or set another --root")
    if text:
        print(index.text(rows), end="")
        return
    present(index.write(root, rows), browse=browse)


def present(file: Path, *, browse: bool) -> None:
    """Prints a file's path, and opens it in the browser if that is asked for."""
    print(file)
    if browse and not webbrowser.open(file.resolve().as_uri()):
        raise InputMissing(f"no browser was found; open {file.resolve()} with one")


def _told(paths: RunPaths) -> Iterator[Path]:
    """The files that say when a run was last at work."""
    stages = [paths.stage(stage) for stage in StageName]
    files = [paths.report, *(file for stage in stages for file in (stage.config, stage.result, stage.metrics))]
    return (file for file in files if file.exists())


def _text(paths: RunPaths) -> str:
    """The text that was written with the report; where it is not here, one from the run's files."""
    from kronos_trainer.report import facts, text

    wanted = f"run {paths.run_dir.name}"
    for file in sorted((paths.root / "logs").glob("training_report_*.txt"), reverse=True):
        said = file.read_text(encoding="utf-8")
        model, _, run = text.headline(said).rpartition(" · ")
        if run == wanted and model == ModelRef(namespace=paths.model_dir.parent.name, name=paths.model_dir.name).key:
            return said
    return text.lines(facts.gather(_config(paths), paths, _failure(paths)))


def _config(paths: RunPaths) -> RunConfig:
    """The run config of the last stage that was begun. Raises InputMissing."""
    for stage in reversed(StageName):
        file = paths.stage(stage).config
        if file.exists():
            try:
                return load_run(file)
            except ValueError as error:
                raise InputMissing(str(error)) from None
    raise InputMissing(
        f"{paths.run_dir} has no report and no run.json that one could be written from; run the model again"
    )


def _failure(paths: RunPaths) -> str | None:
    """What the report of a failed run has said."""
    try:
        found = json.loads(paths.facts.read_text())["failure"]["message"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(found)
