"""`kronos init`: writes a KronosModel file from a few answers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.prompt import IntPrompt, Prompt

from kronos_operator.cli.failure import Failure
from kronos_operator.cli.terminal import interactive, say

Size = Literal["tiny", "mini", "small", "base", "large"]


@dataclass(frozen=True)
class Start:
    """Where the weights of a size come from."""

    about: str
    tokenizer: str
    predictor: str
    max_context: int


_BASE_TOKENIZER = "{hub: {repo: NeoQuasar/Kronos-Tokenizer-base}}"
STARTS: dict[Size, Start] = {
    "tiny": Start(
        "random weights, minutes on a CPU: to try things out", "{scratch: {size: tiny}}", "{scratch: {size: tiny}}", 512
    ),
    "mini": Start(
        "4 M parameters, pretrained, long context",
        "{hub: {repo: NeoQuasar/Kronos-Tokenizer-2k}}",
        "{hub: {repo: NeoQuasar/Kronos-mini}}",
        2048,
    ),
    "small": Start("25 M parameters, pretrained", _BASE_TOKENIZER, "{hub: {repo: NeoQuasar/Kronos-small}}", 512),
    "base": Start("102 M parameters, pretrained", _BASE_TOKENIZER, "{hub: {repo: NeoQuasar/Kronos-base}}", 512),
    "large": Start(
        "499 M parameters, random weights: none are published", _BASE_TOKENIZER, "{scratch: {size: large}}", 512
    ),
}

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
      # volume and amount. In a cluster, bars are on a volume: claim: {{name: bars, path: us/daily}}
      {source}
  window:
    lookback: {lookback}  # bars of history that a forecast sees
    horizon: {horizon}  # bars to predict
    maxContext: {max_context}  # longest context of these weights, in bars
  # {about}
  tokenizer:
    init: {tokenizer}
    epochs: {epochs}
  predictor:
    init: {predictor}
    epochs: {epochs}
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
    """Write a KronosModel file, asking on a terminal for what the options do not say."""
    from kronos_trainer.config import ExitCode, Timeframe

    frames = [frame.value for frame in Timeframe]
    if not interactive() and (timeframe is None or data is None):
        raise Failure("give --timeframe and --data: there is no terminal to ask on", ExitCode.CONFIG)
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
    if path.exists() and not force:
        raise Failure(f"{path} exists; --force overwrites it, --output FILE writes another", ExitCode.CONFIG)
    _write(path, render(path, timeframe=timeframe, data=data, size=size, name=name, lookback=lookback, horizon=horizon))
    say(f"wrote {path}; next: kronos run -f {path}")


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
    from kronos_trainer.config import TokenizerStage

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
        about=f"{size}: {start.about}",
        tokenizer=start.tokenizer,
        predictor=start.predictor,
        epochs=TokenizerStage.model_fields["epochs"].default,
    )


def _write(path: Path, text: str) -> None:
    """Write the file once it has been read back and found valid."""
    from kronos_operator.loading import InvalidModel, load_models
    from kronos_trainer.config import ExitCode

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".kronos-init-") as aside:
        draft = Path(aside) / path.name
        draft.write_text(text)
        try:
            load_models([draft])
        except InvalidModel as error:
            problems = "; ".join(f"{problem.field}: {problem.message}" for problem in error.problems)
            raise Failure(f"nothing written: {problems}", ExitCode.CONFIG) from None
        draft.replace(path)


def _ask(question: str, default: str, choices: Sequence[str] | None = None) -> str:
    if not interactive():
        return default
    return Prompt.ask(question, default=default, choices=list(choices) if choices else None)


def _ask_number(question: str, default: int) -> int:
    return IntPrompt.ask(question, default=default) if interactive() else default


def _ask_size() -> Size:
    if interactive():
        for size, start in STARTS.items():
            say(f"  {size:<6} {start.about}", style="dim")
    answer = _ask("Size of the model", "small", list(STARTS))
    return next(size for size in STARTS if size == answer)
