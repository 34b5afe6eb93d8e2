"""`kronos init`: writes a KronosModel file from a few answers."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer
from rich.prompt import IntPrompt, Prompt

from kronos_operator.cli.failure import Failure
from kronos_operator.cli.preparation import local_settings
from kronos_operator.cli.terminal import interactive, print_line

if TYPE_CHECKING:
    from kronos_trainer.config import PredictorStage, TokenizerStage

Size = Literal["tiny", "mini", "small", "base", "large"]


TEMPLATE = """\
# A Kronos model for bars of {timeframe}.
#   kronos plan -f {file}    shows what would be trained; with --all, every field, its default included
#   kronos run -f {file}     trains it
apiVersion: {api_version}
kind: {kind}
metadata:
  name: {name}
spec:
  timeframe: {timeframe}
  data:
    source:
      # CSV or Parquet, a file or a directory, with the columns timestamps, open, high, low, close and, if known,
      # volume and amount; a relative path starts at this file, or at KRONOS_DATA_PATH where that is set.
      # In a cluster, bars are on a volume: claim: {{name: bars, path: us/daily}}
      {source}
  window:
    lookback: {lookback}  # bars of history that a forecast uses
    horizon: {horizon}  # bars to predict
    maxContext: {max_context}  # longest context of these weights, in bars
  # {about}
  tokenizer:
{tokenizer}
  predictor:
{predictor}
"""


def init(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write.", show_default="NAME.yaml"),
    ] = None,
    timeframe: Annotated[
        str | None, typer.Option(help="Length of a bar, e.g. 5m, 1h, 4h, 1d.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="PATH", help="Bars: a file, a directory or a URI.", show_default=False)
    ] = None,
    size: Annotated[Size | None, typer.Option(help="Size of the model.", show_default="small")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model.", show_default="model-TIMEFRAME")] = None,
    lookback: Annotated[int | None, typer.Option(help="Bars of history.", show_default="by timeframe")] = None,
    horizon: Annotated[int | None, typer.Option(help="Bars to predict.", show_default="by timeframe")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a KronosModel file; on a terminal, ask for what the options leave out."""
    from kronos_trainer.config import ExitCode, Timeframe

    frames = [frame.value for frame in Timeframe]
    if not interactive() and (timeframe is None or data is None):
        raise Failure("give --timeframe and --data: no terminal to ask on", ExitCode.CONFIG)
    timeframe = timeframe or _ask("Length of a bar", "1d", frames)
    if timeframe not in frames:
        raise Failure(f"--timeframe {timeframe}: choose one of {', '.join(frames)}", ExitCode.CONFIG)
    data = data or _ask("Bars (CSV or Parquet file, a directory of them, or a URI)", "data")
    if size is None:
        size = _ask_size()
    name = name or _ask("Name of the model", f"model-{timeframe}")
    usual_lookback, usual_horizon = usual_window(timeframe)
    lookback = lookback or _ask_number("Bars of history", usual_lookback)
    horizon = horizon or _ask_number("Bars to predict", usual_horizon)

    path = output or Path(f"{name}.yaml")
    if path.is_dir():
        path = path / f"{name}.yaml"
    if path.exists() and not force:
        raise Failure(f"{path} exists; --force overwrites it, --output FILE writes another", ExitCode.CONFIG)
    data = _relative_to(path, data)
    write_checked(
        path, render(path, timeframe=timeframe, data=data, size=size, name=name, lookback=lookback, horizon=horizon)
    )
    _print_next_step(path)


def usual_window(timeframe: str) -> tuple[int, int]:
    """Lookback and horizon, in bars, that suit a timeframe."""
    match timeframe[-1], timeframe:
        case "m", _:
            return 400, 48
        case _, "1h" | "2h":
            return 168, 24
        case "h", _:
            return 90, 10
        case "d", _:
            return 120, 15
        case _, "1mo":
            return 60, 6
        case _:
            return 104, 8


def render(path: Path, *, timeframe: str, data: str, size: Size, name: str, lookback: int, horizon: int) -> str:
    """The text of the file."""
    from kronos_operator.names import API_VERSION, KIND
    from kronos_trainer.config import STARTS

    start = STARTS[size]
    return TEMPLATE.format(
        api_version=API_VERSION,
        kind=KIND,
        file=path,
        timeframe=timeframe,
        source=f"{'uri' if '://' in data else 'path'}: {json.dumps(data, ensure_ascii=False)}",
        name=name,
        lookback=lookback,
        horizon=horizon,
        max_context=start.max_context,
        about="\n  # ".join(filter(None, (f"{size}: {start.about}", start.remark))),
        tokenizer=_fields(start.tokenizer),
        predictor=_fields(start.predictor),
    )


def _fields(stage: TokenizerStage | PredictorStage) -> str:
    """The lines of a stage: what it starts from, then its numbers."""
    given = stage.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    lines = {"init": given.pop("init"), "epochs": stage.epochs} | given
    return "\n".join(f"    {name}: {_flow(value)}" for name, value in lines.items())


def _flow(value: Any) -> str:
    """A value as YAML on one line: {hub: {repo: a/b}}."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow(part)}" for name, part in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) and not value.isalpha() else str(value)


def _relative_to(path: Path, data: str) -> str:
    """Bars that are named from here, as the file at `path` has to name them."""
    from kronos_operator.sources import home_of

    elsewhere = home_of(path) != Path.cwd()
    if "://" in data or Path(data).is_absolute() or not elsewhere or local_settings().data is not None:
        return data
    return os.path.relpath(data, home_of(path))


def _print_next_step(path: Path) -> None:
    from kronos_operator.loading import load_models
    from kronos_operator.local import refusals

    (loaded,) = load_models([path])
    missing = list(refusals(loaded, local_settings()))
    for refusal in missing:
        print_line(f"note: {loaded.origins[refusal.field].where}: {refusal}", stderr=True)
    print_line(f"wrote {path}; {'once that is fixed' if missing else 'next'}: kronos run -f {path}")


def write_checked(path: Path, text: str) -> None:
    """Write a KronosModel file once it has been read back and found valid. Raises Failure (64, 74)."""
    from kronos_operator.loading import InvalidModel, load_models
    from kronos_trainer.config import ExitCode

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".kronos-init-") as aside:
            draft = Path(aside) / path.name
            draft.write_text(text)
            load_models([draft])
            draft.replace(path)
    except InvalidModel as error:
        problems = "; ".join(f"{problem.field}: {problem.message}" for problem in error.problems)
        raise Failure(f"nothing written: {problems}", ExitCode.CONFIG) from None
    except OSError as error:
        raise Failure(f"{path} cannot be written: {(error.strerror or str(error)).lower()}", ExitCode.STORAGE) from None


def _ask(question: str, default: str, choices: Sequence[str] | None = None) -> str:
    if not interactive():
        return default
    return Prompt.ask(question, default=default, choices=list(choices) if choices else None)


def _ask_number(question: str, default: int) -> int:
    return IntPrompt.ask(question, default=default) if interactive() else default


def _ask_size() -> Size:
    from kronos_trainer.config import STARTS

    if interactive():
        for size, start in STARTS.items():
            print_line(f"  {size:<6} {start.about}", style="dim")
    answer = _ask("Size of the model", "small", list(STARTS))
    return next(size for size in get_args(Size) if size == answer)
