"""Finds the fields of a KronosModel by their path. Used to explain errors and to apply overrides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kronos_operator.api import KronosModel


def known_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a class by the names that YAML gives them."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def bare_type(annotation: Any) -> Any:
    """The type itself: X for `X | None` and for `Annotated[X, ...]`."""
    while True:
        origin, args = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            annotation = args[0]
        elif origin in (Union, UnionType):
            annotation = next(arg for arg in args if arg is not type(None))
        else:
            return annotation


def is_model(annotation: Any) -> bool:
    """Whether a bare type is an object with fields of its own."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def field_at(path: Sequence[str | int]) -> FieldInfo | None:
    """The field at a path such as ("spec", "window", "lookback"), or the one that holds it if it is part of a list."""
    found, _ = _walk(path)
    return found


def type_at(path: Sequence[str | int]) -> Any:
    """The bare type of the value at a path; None where no such field is known."""
    _, annotation = _walk(path)
    return annotation


def choices_at(path: Sequence[str | int]) -> list[str]:
    """The values that the field at a path may take, if they can be listed."""
    annotation = type_at(path)
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(member.value) for member in annotation]
    return []


def places_of(name: str) -> list[str]:
    """Dotted paths under spec of every field with this name, outside lists and maps."""
    return [".".join(path) for path in _paths(type_at(["spec"])) if path[-1] == name]


def _paths(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    for name, info in known_fields(model).items():
        yield (name,)
        annotation = bare_type(info.annotation)
        if is_model(annotation):
            yield from ((name, *rest) for rest in _paths(annotation))


def _walk(path: Sequence[str | int]) -> tuple[FieldInfo | None, Any]:
    info: FieldInfo | None = None
    annotation: Any = KronosModel
    for part in path:
        if is_model(annotation):
            info = known_fields(annotation).get(str(part))
            if info is None:
                return None, None
            annotation = bare_type(info.annotation)
        elif get_origin(annotation) in (list, dict):
            annotation = bare_type(get_args(annotation)[-1])
        else:
            return None, None
    return info, annotation
