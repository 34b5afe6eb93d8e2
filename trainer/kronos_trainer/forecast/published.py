"""Finds the weights that a finished run published. Called by the forecast command."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from kronos_trainer.config import ModelRef, RunPaths, Timeframe, Window
from kronos_trainer.errors import ConfigError, InputMissing


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Directories of a tokenizer and its predictor, and what is known of how they were trained."""

    tokenizer: Path
    predictor: Path
    timeframe: Timeframe | None = None
    window: Window | None = None
    clip: float = 5.0
    time_zone: str | None = None
    label: Literal["left", "right"] = "left"
    adjust: Literal["none", "splits"] = "none"


def published_weights(root: Path, namespace: str | None, name: str) -> Weights:
    """What `current.json` of a model names; without a namespace, that of the only one below `root` of this name.

    Raises ConfigError for an impossible name or one that several namespaces have, InputMissing otherwise.
    """
    try:
        model = ModelRef(namespace=namespace or "default", name=name)
    except ValidationError:
        raise ConfigError(f"{namespace}/{name} is not a model's name: lower case letters, digits, - and .") from None
    if namespace is None:
        found = sorted(file.parents[1].name for file in (root / "models").glob(f"*/{name}/current.json"))
        if len(found) > 1:
            raise ConfigError(f"model {name} is published in {' and '.join(found)}: give --namespace")
        namespace = found[0] if found else "default"
        model = ModelRef(namespace=namespace, name=name)
    paths = RunPaths(root, model, run="")
    try:
        current = json.loads(paths.current.read_text())
    except FileNotFoundError:
        others = sorted(file.parent.name for file in (root / "models" / namespace).glob("*/current.json"))
        hint = f"published there: {', '.join(others)}" if others else f"no model of namespace {namespace} is"
        raise InputMissing(
            f"model {name} is not published ({paths.current} is absent); {hint}; train it with `kronos run`, or name "
            "another --root"
        ) from None
    except ValueError as error:
        raise InputMissing(
            f"{paths.current}: damaged, not JSON ({error}); publish the model again with `kronos run`"
        ) from None
    return Weights(
        tokenizer=paths.model_dir / current["tokenizer"]["path"],
        predictor=paths.model_dir / current["predictor"]["path"],
        timeframe=Timeframe(current["timeframe"]),
        window=Window.model_validate(current["window"]),
        clip=current["data"]["clip"],
        time_zone=current["data"]["timeZone"],
        # absent where an older release published
        label=current["data"].get("label", "left"),
        adjust=current["data"].get("adjust", "none"),
    )
