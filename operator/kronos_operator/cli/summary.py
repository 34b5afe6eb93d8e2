"""The result of a run: losses before and after, the verdict, where everything lies, and how to forecast.

The end of `kronos run`.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kronos_operator.cli.preparation import local_settings
from kronos_operator.cli.terminal import near, number, print_line, print_table
from kronos_operator.cli.verdicts import evaluated, verdict_lines
from kronos_operator.durations import duration

if TYPE_CHECKING:
    from kronos_operator.api import Evaluated
    from kronos_operator.local import LocalRun, RunResult
    from kronos_trainer.config import RunPaths, StageName


@dataclass(frozen=True, kw_only=True)
class StageSummary:
    """One stage; losses are validation losses, None while there is none."""

    stage: str
    state: str
    loss_before: float | None
    loss_after: float | None
    epochs: int | None
    seconds: float | None
    weights: str | None


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """One model; `forecast` is a command to copy, None unless the run is published."""

    model: str
    run: str | None
    exit_code: int
    message: str
    stages: tuple[StageSummary, ...] = ()
    evaluation: Evaluated | None = None
    report: str | None = None
    log: str | None = None
    forecast: str | None = None


def show_summary(models: Sequence[ModelSummary]) -> None:
    """Print the final table, then for each model where its results are."""
    rows = []
    for one in models:
        for index, stage in enumerate(one.stages):
            change = f"{number(stage.loss_before)} → {number(stage.loss_after)}"
            rows.append(
                [
                    one.model if index == 0 else "",
                    stage.stage,
                    stage.state,
                    change if stage.loss_after is not None else "-",
                    "-" if stage.epochs is None else str(stage.epochs),
                    duration(stage.seconds),
                ]
            )
    if rows:
        print_line()
        print_table(
            ["model", "stage", "state", "loss before → after", "epochs", "time"],
            rows,
            right=frozenset({"epochs", "time"}),
        )
    for one in models:
        print_line()
        print_line(
            one.model if not one.message else f"{one.model}: {one.message}",
            style="bold" if not one.exit_code else "bold red",
        )
        weights = [stage.weights for stage in one.stages if stage.weights]
        for label, text in (
            *(("checkpoints" if index == 0 else "", path) for index, path in enumerate(weights)),
            *(() if one.evaluation is None else verdict_lines(one.evaluation)),
            ("report", one.report),
            ("log", one.log),
            ("forecast", one.forecast),
        ):
            if text:
                print_line(f"  {label:<12} {near(text)}")


def summary_document(summary: ModelSummary) -> dict[str, Any]:
    """The summary as JSON, in camelCase as every file of a run."""
    from pydantic.alias_generators import to_camel

    def renamed(fields: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        return {to_camel(name): value for name, value in fields}

    found = summary.evaluation
    document = None if found is None else found.model_dump(mode="json", by_alias=True, exclude_none=True)
    return asdict(summary, dict_factory=renamed) | {"evaluation": document}


def summarise(run: LocalRun, outcome: RunResult) -> ModelSummary:
    """The summary of a model after its run, from the files that its stages left."""
    from kronos_operator.local import published_run

    stages = tuple(_stage(run.paths, one.stage, one.action) for one in run.stages)
    results = {
        one.stage: result for one in run.stages if (result := run.paths.stage(one.stage).completed()) is not None
    }
    return ModelSummary(
        model=run.key,
        run=run.run,
        exit_code=int(outcome.exit_code),
        message=outcome.message,
        stages=stages,
        evaluation=evaluated(run.run, results),
        report=str(run.paths.report) if run.paths.report.exists() else None,
        log=str(outcome.log) if outcome.exit_code and outcome.log else None,
        forecast=forecast_command(run) if published_run(run.root, run.model.ref) == run.run else None,
    )


def forecast_command(run: LocalRun) -> str:
    """A `kronos forecast` command to copy, on the bars that the model was trained with where they are files here."""
    name, spec = run.model.metadata.name, run.model.spec
    words = ["kronos", "forecast", "--model", name]
    if run.model.metadata.namespace != "default":
        words += ["--namespace", run.model.metadata.namespace]
    if run.root != local_settings().output_root.absolute():
        words += ["--root", near(str(run.root))]
    words += [
        "--input",
        "BARS.csv" if spec.data.source.uri is not None else near(_one_file(Path(run.bars))),
        "--horizon",
        str(spec.window.horizon),
        "--output",
        f"{name}-forecast.csv",
    ]
    return shlex.join(words)


def _stage(paths: RunPaths, stage: StageName, action: str) -> StageSummary:
    from kronos_trainer.config import StageResult

    files = paths.stage(stage)
    complete = files.completed()
    result = complete or StageResult()
    return StageSummary(
        stage=stage.value,
        state=_state(action, complete=complete is not None),
        loss_before=result.initial_validation_loss,
        loss_after=result.best_validation_loss,
        epochs=result.epochs,
        seconds=result.seconds,
        weights=str(files.best) if complete and stage.has_weights else None,
    )


def _state(action: str, *, complete: bool) -> str:
    """A stage that is reused is complete, also where the run ended before it was copied."""
    if complete:
        return {"train": "trained", "score": "done"}.get(action, action)
    return action if action.startswith("reuse") or action == "skipped" else "not complete"


def _one_file(bars: Path) -> str:
    """The file itself, or the first one of a directory."""
    from kronos_trainer.config import bar_files_below

    if not bars.is_dir():
        return str(bars)
    files = bar_files_below(bars)
    return str(files[0]) if files else str(bars)
