"""Values that replace a file's: from `--set field=value` and from the environment. Used by `loading`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_origin

from pydantic import BaseModel

from kronos_operator.fields import bare_type, is_model, known_fields, type_at
from kronos_operator.names import COMET_WORKSPACE_ENV
from kronos_operator.problems import InvalidModel, Problem
from kronos_operator.yaml_source import YamlError, read_value
from kronos_trainer.config import OneOf, StageName

FieldPath = tuple[str, ...]


@dataclass(frozen=True)
class Edit:
    """One value to set. `path` starts at spec; a value of None takes the field out."""

    path: FieldPath
    value: Any
    source: Literal["environment", "--set"]
    where: str


def edits_from_options(texts: Sequence[str]) -> list[Edit]:
    """The edits that `--set` texts ask for, e.g. "predictor.epochs=2". Raises InvalidModel."""
    edits = []
    for text in texts:
        where = f"--set {text}"
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidModel([Problem(where, None, "", "write it as field=value, e.g. predictor.epochs=2")])
        try:
            edits.append(Edit(_path(name), _value(_path(name), value), "--set", where))
        except YamlError as error:
            raise InvalidModel([Problem(where, None, name, str(error))]) from None
    return edits


def edits_from_environment(environ: Mapping[str, str], *, with_comet: bool) -> list[Edit]:
    """The edits that set variables ask for. The workspace counts only for a model that reports to Comet at all."""
    fields: dict[str, FieldPath] = {
        stage.path_variable: ("spec", stage.value, "init", "path") for stage in StageName.with_weights()
    }
    if with_comet:
        fields[COMET_WORKSPACE_ENV] = ("spec", "comet", "workspace")
    return [
        Edit(path, environ[variable], "environment", variable)
        for variable, path in fields.items()
        if environ.get(variable)
    ]


def apply(edit: Edit, tree: dict[str, Any]) -> None:
    """Set the edit's value in a KronosModel's plain tree. Choosing one alternative of several drops the others."""
    parent = tree
    for depth, name in enumerate(edit.path[:-1], start=1):
        _drop_alternatives(edit.path[: depth - 1], name, parent)
        if not isinstance(parent.get(name), dict):
            parent[name] = _start(edit.path[:depth])
        parent = parent[name]
    _drop_alternatives(edit.path[:-1], edit.path[-1], parent)
    if edit.value is None:
        parent.pop(edit.path[-1], None)
    else:
        parent[edit.path[-1]] = edit.value


def _value(path: FieldPath, text: str) -> Any:
    """The value as YAML; the text itself where one is expected, for a shell takes the quotes off "20261120"."""
    value = read_value(text)
    return text if isinstance(value, int | float) and type_at(path) is str else value


def _path(name: str) -> FieldPath:
    """The path that a dotted name means. What follows a map is one key, which may hold dots itself."""
    parts = name.removeprefix("spec.").split(".")
    path: FieldPath = ("spec",)
    while parts:
        if get_origin(type_at(path)) is dict:
            return (*path, ".".join(parts))
        path = (*path, parts.pop(0))
    return path


def _drop_alternatives(at: FieldPath, chosen: str, tree: dict[str, Any]) -> None:
    kind = type_at(at)
    if is_model(kind) and issubclass(kind, OneOf):
        for name in known_fields(kind):
            if name != chosen:
                tree.pop(name, None)


def _start(at: FieldPath) -> dict[str, Any]:
    """What an absent object starts from: the default that it would have had, so that its other fields stay."""
    parent = type_at(at[:-1])
    info = known_fields(parent).get(at[-1]) if is_model(parent) else None
    if info is None or not is_model(bare_type(info.annotation)) or not isinstance(info.default, BaseModel):
        return {}
    return info.default.model_dump(mode="json", by_alias=True, exclude_none=True)
