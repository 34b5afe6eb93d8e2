"""Reads the settings of upstream's finetuning scripts: finetune/config.py without running it, finetune_csv's YAML.

What they mean for a KronosModel is in `kronos_trainer.config`. Used by `kronos import-config`.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kronos_operator.yaml_source import YamlError, read_documents
from kronos_trainer.config import CSV_SECTIONS

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
_UNREAD = "computed by code, which is not run"


class UnreadableSettings(Exception):
    """The file is not one of upstream's; the message says why."""


@dataclass
class Settings:
    """Settings by name; `unread` has those that only running the file would tell, with why."""

    values: dict[str, Any] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


def read_config_py(text: str) -> Settings:
    """The attributes of the class Config in a Python file, as far as they can be told without running it.

    Raises UnreadableSettings.
    """
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UnreadableSettings(f"is not Python{line}") from None
    classes = [node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "Config"]
    if not classes:
        raise UnreadableSettings("has no class Config, as upstream's finetune/config.py has")
    reader = _Reader()
    for node in module.body:
        reader.names(node)
    for node in classes[-1].body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            for statement in node.body:
                reader.statement(statement)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            reader.statement(node, in_class=True)
    return reader.settings


def read_csv_yaml(text: str) -> dict[str, Any]:
    """The sections of a YAML file of finetune_csv. Raises UnreadableSettings."""
    try:
        documents = read_documents(text)
    except YamlError as error:
        raise UnreadableSettings(f"line {error.line}: {error}" if error.line else str(error)) from None
    for document in documents:
        for _, line, message in document.flaws:
            raise UnreadableSettings(f"line {line}: {message}")
    if len(documents) != 1 or not isinstance(documents[0].value, Mapping) or "data" not in documents[0].value:
        sections = ", ".join(CSV_SECTIONS)
        raise UnreadableSettings(f"has no sections {sections}, as the YAML files of upstream's finetune_csv have")
    return dict(documents[0].value)


def is_python(file: Path) -> bool:
    """Whether a file of settings is upstream's config.py, by its name."""
    return file.suffix == ".py"


class _Unknown(Exception):
    """An expression is not one of those that are evaluated."""


class _Reader:
    """Evaluates literals, arithmetic, text and paths; nothing that is called but two functions of os.path."""

    def __init__(self) -> None:
        self.settings = Settings()
        self._names: dict[str, Any] = {}

    def names(self, node: ast.stmt) -> None:
        """Remembers a constant of the module."""
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                self._names[node.targets[0].id] = self._value(node.value)
            except _Unknown:
                self._names.pop(node.targets[0].id, None)

    def statement(self, node: ast.stmt, *, in_class: bool = False) -> None:
        """Takes the attributes that a statement assigns."""
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        plain = isinstance(node, ast.Assign | ast.AnnAssign) and value is not None
        names = [_attribute(target, in_class=in_class) for target in targets] if plain else []
        for inner in ast.walk(node):  # below a condition or a loop, or several at once
            stored = _attribute(inner) if isinstance(getattr(inner, "ctx", None), ast.Store) else None
            if stored is not None and stored not in names:
                self._give_up(stored)
        for name in filter(None, names):
            assert isinstance(value, ast.expr)
            try:
                self.settings.values[name] = self._value(value)
                self.settings.unread.pop(name, None)
            except _Unknown:
                self._give_up(name)
        if plain and not in_class:
            self.names(node)

    def _give_up(self, name: str) -> None:
        self.settings.values.pop(name, None)
        self.settings.unread[name] = _UNREAD

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return [self._value(part) for part in parts]
            case ast.Dict(keys=keys, values=values) if None not in keys:
                return {self._value(key): self._value(value) for key, value in zip(keys, values, strict=True) if key}
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._number(operand)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                first, second = self._value(left), self._value(right)
                if isinstance(first, str) and isinstance(second, str):
                    return first + second
                return self._number(left) + self._number(right)
            case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
                try:
                    return _OPERATORS[type(sign)](self._number(left), self._number(right))
                except ZeroDivisionError:
                    raise _Unknown from None
            case ast.JoinedStr(values=parts):
                return "".join(self._text(part) for part in parts)
            case ast.Name(id=name) if name in self._names:
                return self._names[name]
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if name in self.settings.values:
                return self.settings.values[name]
            case ast.Call(func=function, args=arguments, keywords=[]):
                return self._path(ast.unparse(function), [self._value(one) for one in arguments])
            case _:
                raise _Unknown

    def _number(self, node: ast.expr) -> Any:
        value = self._value(node)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Unknown
        return value

    def _text(self, node: ast.expr) -> str:
        match node:
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                return str(self._value(value))
            case ast.Constant(value=str(text)):
                return text
            case _:
                raise _Unknown

    def _path(self, function: str, parts: list[Any]) -> str:
        if not parts or not all(isinstance(part, str) for part in parts):
            raise _Unknown
        if function == "os.path.join":
            return str(Path(*parts))
        if function == "os.path.expanduser" and len(parts) == 1:
            return str(Path(parts[0]).expanduser())
        raise _Unknown


def _attribute(target: ast.AST | None, *, in_class: bool = False) -> str | None:
    """The setting that an assignment's target is."""
    match target:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return name
        case ast.Name(id=name) if in_class:
            return name
        case _:
            return None
