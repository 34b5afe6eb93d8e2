"""The errors in a KronosModel file, each with its file, line and field. Raised by `loading`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from kronos_operator.fields import choices_at, field_at, is_model, known_fields, places_of, type_at
from kronos_operator.yaml_source import Position

_SHOWN = 60


@dataclass(frozen=True)
class Problem:
    """One error. `file` is the source of the value: a file, a variable or an override."""

    file: str
    line: int | None
    field: str
    message: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (where, self.field, self.message) if part)


class InvalidModel(Exception):
    """Files, variables or overrides that do not give valid models; `problems` lists every error."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(dict.fromkeys(problems))
        super().__init__("\n".join(map(str, self.problems)))


def field_name(path: Position) -> str:
    """A path as text: spec.podTemplate.env[0].name."""
    text = ""
    for part in path:
        if isinstance(part, int) or not part.replace("_", "a").isalnum():
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def error_path(error: ErrorDetails) -> Position:
    """The path of the value that an error is about."""
    return tuple(part for part in error["loc"] if part != "[key]")


def in_words(error: ErrorDetails) -> str:
    """The error as text for users who know YAML, not Python."""
    path, context, found = error_path(error), error.get("ctx", {}), _show(error["input"])
    match error["type"]:
        case "missing":
            return f"is required: {_description(path)}"
        case "extra_forbidden":
            return _unknown(path)
        case "value_error":
            return str(context["error"])
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"must be a mapping of fields; found {found}"
        case "list_type":
            return f"must be a list; found {found}"
        case "string_type":
            advice = "; put it in quotes" if isinstance(error["input"], int | float) else ""
            return f"must be text; found {found}{advice}"
        case "int_type":
            return f"must be a whole number; found {found}"
        case "float_type":
            return f"must be a number; found {found}"
        case "finite_number":
            return f"must be a finite number; found {found}"
        case "bool_type":
            return f"must be true or false; found {found}"
        case "literal_error" | "enum":
            return _not_a_choice(path, error["input"])
        case "greater_than":
            return f"must be greater than {context['gt']:g}; found {found}"
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}; found {found}"
        case "less_than":
            return f"must be less than {context['lt']:g}; found {found}"
        case "less_than_equal":
            return f"must be at most {context['le']:g}; found {found}"
        case "string_too_short":
            least = context["min_length"]
            return "must not be empty" if least == 1 else f"must have at least {least} characters; found {found}"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters; found {len(error['input'])}"
        case "too_short":
            return f"must have at least {context['min_length']} entries; found {context['actual_length']}"
        case "too_long":
            return f"must have at most {context['max_length']} entries; found {context['actual_length']}"
        case "string_pattern_mismatch":
            return f"{found} does not have the right form: {_description(path)} It must match {context['pattern']}"
        case _:
            return f"{error['msg'].replace('Input should', 'must')}; found {found}"


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint at the known name that was probably meant, or nothing."""
    folded = {one.casefold(): one for one in known}
    near = difflib.get_close_matches(name.replace("_", "").casefold(), folded, n=1, cutoff=0.7)
    return f"; did you mean {folded[near[0]]}?" if near else ""


def _unknown(path: Position) -> str:
    name = str(path[-1])
    parent = type_at(path[:-1])
    known = list(known_fields(parent)) if is_model(parent) else []
    if hint := nearest(name, known):
        return f"unknown field{hint}"
    elsewhere = [f"spec.{place}" for place in places_of(name)][:4]
    if elsewhere:
        return f"unknown field here; it belongs at {' or '.join(elsewhere)}"
    return f"unknown field; the fields here are {', '.join(known)}"


def _not_a_choice(path: Position, value: Any) -> str:
    choices = choices_at(path)
    hint = nearest(value, choices) if isinstance(value, str) else ""
    return f"must be one of {', '.join(choices)}; found {_show(value)}{hint}"


def _description(path: Position) -> str:
    info = field_at(path)
    return info.description or "" if info else ""


def _show(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str() if len(value) > _SHOWN:
            return f"{value[:_SHOWN]!r}..."
        case _:
            return repr(value)
