"""YAML documents as plain values, with the line of every key. Used by `loading`, and by `overrides` for single values.

Where YAML 1.1 readers differ from what kubectl makes of a file, kubectl is followed: 1e-4 is a number, an unquoted
date is text, and a key with nothing after it counts as absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Position = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the name and type are PyYAML's


for _tag, _pattern, _first in (
    ("bool", r"(?i)^(true|false|yes|no|on|off)$", "tTfFyYnNoO"),
    ("int", r"^[-+]?(0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"^([-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$", "-+.0123456789"),
    ("null", r"(?i)^(~|null|)$", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


class YamlError(Exception):
    """The text is not YAML. `line` counts from 1; None if unknown."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


@dataclass
class Document:
    """One document: its value, where each part of it stands, and what is wrong with it as YAML."""

    value: Any
    line: int
    lines: dict[Position, int] = field(default_factory=dict)
    flaws: list[tuple[Position, int, str]] = field(default_factory=list)


def read_documents(text: str) -> list[Document]:
    """The documents of a text, empty ones left out. Raises YamlError."""
    try:
        return list(_documents(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise YamlError(f"not valid YAML: {reason}", mark.line + 1 if mark else None) from None
    except yaml.YAMLError as error:
        raise YamlError(f"not valid YAML: {str(error).splitlines()[0]}", None) from None


def read_value(text: str) -> Any:
    """The single value that a text holds. Raises YamlError."""
    documents = read_documents(text)
    if not documents:
        return None
    if len(documents) > 1 or documents[0].flaws:
        raise YamlError(documents[0].flaws[0][2] if documents[0].flaws else "more than one value", None)
    return documents[0].value


def _documents(text: str) -> Iterator[Document]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # check_node was true
            reader = _Reader(loader)
            document = Document(reader.value(node, ()), node.start_mark.line + 1, reader.lines, reader.flaws)
            if document.value is not None:
                yield document
    finally:
        loader.dispose()


class _Reader:
    def __init__(self, loader: _Loader) -> None:
        self._loader = loader
        self._open: list[yaml.Node] = []
        self.lines: dict[Position, int] = {}
        self.flaws: list[tuple[Position, int, str]] = []

    def value(self, node: yaml.Node, at: Position) -> Any:
        if any(node is parent for parent in self._open):
            return self._flaw(at, node, "an alias may not refer to what it is part of")
        self._open.append(node)
        try:
            match node:
                case yaml.MappingNode():
                    return self._mapping(node, at)
                case yaml.SequenceNode():
                    return self._sequence(node, at)
                case _:
                    return self._loader.construct_object(node)
        finally:
            self._open.pop()

    def _sequence(self, node: yaml.SequenceNode, at: Position) -> list[Any]:
        values = []
        for index, item in enumerate(node.value):
            self.lines[*at, index] = item.start_mark.line + 1
            values.append(self.value(item, (*at, index)))
        return values

    def _mapping(self, node: yaml.MappingNode, at: Position) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._flaw(at, key_node, "a field name must be text")
                continue
            key = key_node.value
            here = (*at, key)
            if key == "<<":
                self._flaw(at, key_node, "merge keys (<<) are not supported: write the fields out")
            elif here in self.lines:
                self._flaw(here, key_node, f"is given twice; the first is on line {self.lines[here]}")
            else:
                self.lines[here] = key_node.start_mark.line + 1
                value = self.value(value_node, here)
                if value is not None:
                    values[key] = value
        return values

    def _flaw(self, at: Position, node: yaml.Node, message: str) -> None:
        self.flaws.append((at, node.start_mark.line + 1, message))
