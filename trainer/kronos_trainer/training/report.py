"""report.md of a run: what was trained on what, how it went, and how to use it. Written by publish.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kronos_trainer.config import (
    BarsRead,
    RunConfig,
    RunPaths,
    StageName,
    StageResult,
    WeightsStage,
    WindowCounts,
)
from kronos_trainer.storage import durable

Results = Mapping[StageName, StageResult]


def write(run: RunConfig, paths: RunPaths, results: Results) -> None:
    """Replaces the run's report. Raises StorageError."""
    durable.write_text(paths.report, text(run, results))


def text(run: RunConfig, results: Results) -> str:
    """The report in Markdown."""
    sections = [
        _head(run, results),
        _section("Losses", _losses(results)),
        _section("Data", _data(run, results)),
        _section("Configuration", _configuration(run)),
        _section("Training", _training(results)),
        _section("Weights", _weights(run, results)),
        _section("Forecasting", _forecasting(run)),
        _section("Evaluation", _scores(results)),
        _section("Software", _software(results)),
    ]
    return "\n".join(sections)


def _head(run: RunConfig, results: Results) -> str:
    outcome = "\n".join(f"- {stage}: {_change(result)}" for stage, result in _with_weights(results))
    run_line = f"Run `{run.run}`, namespace {run.model.namespace}."
    return f"# {run.model.name} ({run.timeframe.value} bars)\n\n{run_line}\n\n{outcome}\n"


def _change(result: StageResult) -> str:
    if not result.epochs:
        return "not trained, the initial weights were used unchanged"
    before, after = result.initial_validation_loss, result.best_validation_loss
    if before is None or after is None:
        return "trained without a validation loss"
    if result.best_step == 0:
        return f"training did not improve on the initial validation loss {before:.4f}, so the initial weights were kept"
    change = f" ({100 * (after - before) / abs(before):+.1f} %)" if before else ""
    return f"validation loss {before:.4f} → {after:.4f}{change}"


def _losses(results: Results) -> str:
    rows = [
        [
            stage,
            _text(result.initial_validation_loss),
            _text(result.best_validation_loss),
            f"epoch {_text(result.best_epoch)}, step {_text(result.best_step)}",
            _text(result.final_train_loss),
        ]
        for stage, result in _trained(results)
    ]
    header = ["stage", "validation before", "validation best", "best at", "training, last"]
    return _table(header, rows) if rows else "No stage was trained.\n"


def _data(run: RunConfig, results: Results) -> str:
    lines = [f"- read from `{run.bars}`, timeframe {run.timeframe.value}"]
    split = run.data.split
    if split.fractions is not None:
        shares = split.fractions
        lines.append(f"- split by time: train {shares.train:g}, validation {shares.validation:g}, test {shares.test:g}")
    if split.ranges is not None:
        spans = {"train": split.ranges.train, "validation": split.ranges.validation, "test": split.ranges.test}
        listed = ", ".join(f"{name} {span.start} to {span.end}" for name, span in spans.items() if span is not None)
        lines.append(f"- split by time (end exclusive): {listed}")
    notes: list[str] = []
    for stage, result in _trained(results):
        data, windows = result.data or BarsRead(), result.windows or WindowCounts()
        lines.append(
            f"- {stage}: {data.symbols:,} symbols, {data.bars:,} bars; windows: {windows.train:,} train, "
            f"{windows.validation:,} validation; digest `{data.digest[:12]}`"
        )
        notes += data.notes
    lines += [f"- note: {note}" for note in dict.fromkeys(notes)]
    return "\n".join(lines) + "\n"


def _configuration(run: RunConfig) -> str:
    window, training = run.window, run.training
    early = f"patience {training.early_stopping.patience}" if training.early_stopping else "off"
    shared: list[list[object]] = [
        ["lookback / horizon / maxContext", f"{window.lookback} / {window.horizon} / {window.max_context} bars"],
        ["seed", training.seed],
        ["precision", training.precision],
        ["windowsPerEpoch", training.windows_per_epoch or "all"],
        ["validationWindows", training.validation_windows or "all"],
        ["early stopping", early],
        ["gradientCheckpointing", training.gradient_checkpointing],
        ["compile", training.compile],
        ["upstreamExact", training.upstream_exact],
    ]
    columns = {stage: _fields(config) for stage, config in run.weights_stages().items()}
    names = next(iter(columns.values()))
    rows = [[name, *(column[name] for column in columns.values())] for name in names]
    return _table(["setting", "value"], shared) + "\n" + _table(["setting", *columns], rows)


def _fields(config: WeightsStage) -> dict[str, object]:
    others = config.model_dump(by_alias=True, exclude={"init", "betas"})
    return {"init": _init(config), **others, "betas": ", ".join(f"{beta:g}" for beta in config.betas)}


def _init(config: WeightsStage) -> str:
    init = config.init
    if init.hub is not None:
        return f"hub {init.hub.repo}"
    if init.path is not None:
        return f"path {init.path}"
    if init.published:
        return "published"
    assert init.scratch is not None
    return f"scratch {init.scratch.size}"


def _training(results: Results) -> str:
    header = ["stage", "finished", "time", "epochs", "steps", "windows/s", "processes", "device", "precision"]
    rows = []
    for stage, result in _trained(results):
        speed = result.samples_per_second
        rows.append(
            [
                stage,
                result.finished_at,
                _duration(result.seconds or 0.0),
                result.epochs,
                f"{result.steps or 0:,}",
                "-" if speed is None else f"{speed:,.1f}",
                result.world_size,
                result.device,
                result.precision,
            ]
        )
    return _table(header, rows) if rows else "No stage was trained.\n"


def _weights(run: RunConfig, results: Results) -> str:
    rows = []
    for stage, result in _with_weights(results):
        trained_by = "this run" if result.run == run.run else f"run `{result.run}`, copied here"
        directory = f"`{stage}/best`"
        size = f"{(result.bytes or 0) / 1e6:,.1f} MB"
        rows.append(
            [stage, directory, size, f"{result.parameters or 0:,}", trained_by, result.origin, result.digest[:12]]
        )
    header = ["stage", "directory", "size", "parameters", "from", "initial weights", "digest"]
    return (
        _table(header, rows)
        + "\nDirectories are relative to this report; upstream Kronos loads them with `from_pretrained`.\n"
    )


def _forecasting(run: RunConfig) -> str:
    name = run.model.name if run.model.namespace == "default" else f"{run.model.namespace}/{run.model.name}"
    horizon = run.window.horizon
    return (
        "```sh\n"
        "# the published run of this model\n"
        f"kronos forecast --model {name} --input bars.csv --horizon {horizon} --output forecast.csv\n\n"
        "# exactly this run, from the directory of this report\n"
        f"kronos forecast --tokenizer tokenizer/best --predictor predictor/best --lookback {run.window.lookback} \\\n"
        f"    --input bars.csv --horizon {horizon} --output forecast.csv\n"
        "```\n"
    )


def _scores(results: Results) -> str:
    rows = [
        [stage, name, _text(value)]
        for stage, result in results.items()
        for name, value in (result.scores or {}).items()
    ]
    return _table(["stage", "score", "value"], rows) if rows else "not run\n"


def _software(results: Results) -> str:
    rows = [[stage, *result.software.values()] for stage, result in results.items()]
    return _table(["stage", *list(results.values())[-1].software], rows)


def _with_weights(results: Results) -> list[tuple[StageName, StageResult]]:
    return [(stage, result) for stage, result in results.items() if stage.has_weights]


def _trained(results: Results) -> list[tuple[StageName, StageResult]]:
    return [(stage, result) for stage, result in _with_weights(results) if result.epochs]


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _table(header: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    cells = [[_cell(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    if hour:
        return f"{hour} h {minute:02d} min"
    return f"{minute} min {second:02d} s" if minute else f"{second} s"
