"""Models by the names that users give them."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from kronos_trainer.config import ModelRef, RunPaths
from kronos_trainer.errors import ConfigError, InputMissing


def model_of(namespace: str | None, name: str) -> ModelRef:
    """The model of a name, in the default namespace unless one is given. Raises ConfigError for an impossible name."""
    try:
        return ModelRef(namespace=namespace or "default", name=name)
    except ValidationError:
        given = name if namespace is None else f"{namespace}/{name}"
        raise ConfigError(f"{given} is not a valid model name: use lower-case letters, digits, - and .") from None


def model_below(root: Path, namespace: str | None, name: str) -> ModelRef:
    """The model of a name below an output root; without a namespace that of the only one that has it, else the default.

    Raises ConfigError for an impossible name or one that several namespaces have.
    """
    model = model_of(namespace, name)
    if namespace is not None:
        return model
    found = sorted({directory.parents[1].name for directory in (root / "models").glob(f"*/{name}/runs")})
    if len(found) > 1:
        raise ConfigError(f"there is a model {name} in {' and '.join(found)}: set --namespace")
    return ModelRef(namespace=found[0] if found else "default", name=name)


def files_of(root: Path, namespace: str | None, name: str) -> RunPaths:
    """The files of a model below an output root, of no run. Raises as `model_below`, InputMissing where none is."""
    model = model_below(root, namespace, name)
    paths = RunPaths(root, model, run="")
    if not paths.runs.is_dir():
        raise InputMissing(
            f"no run of {model.key} is below {root}; set another --root, or fetch a cluster's model with "
            f"`kronos pull {name} --to {root}` first"
        )
    return paths


def models_below(root: Path, namespace: str | None) -> list[ModelRef]:
    """The models below an output root, or those of a namespace there, sorted. Raises InputMissing where none is."""
    places = sorted(runs.parent for runs in (root / "models").glob("[!.]*/[!.]*/runs"))
    found = [model_of(place.parent.name, place.name) for place in places if namespace in (None, place.parent.name)]
    if not found:
        inside = "" if namespace is None else f" in namespace {namespace}"
        raise InputMissing(f"no model is below {root}{inside}; set another --root")
    return found
