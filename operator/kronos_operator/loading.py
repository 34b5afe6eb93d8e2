"""Reads KronosModel files, applies overrides, and says where every value came from. Called by the command line."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from kronos_operator.api import KronosModel, Spec
from kronos_operator.names import API_VERSION, KIND
from kronos_operator.overrides import Edit, apply, edits_from_environment, edits_from_settings
from kronos_operator.problems import InvalidModel, Problem, error_path, field_name, in_words
from kronos_operator.yaml_source import Document, Position, YamlError, read_documents

__all__ = ["InvalidModel", "Loaded", "Origin", "Problem", "load_models", "spec_leaves"]

# An object exported from a cluster carries these; they mean nothing to a run of the file.
_SERVER_METADATA = ("managedFields", "ownerReferences", "finalizers", "selfLink", "deletionGracePeriodSeconds")


@dataclass(frozen=True)
class Origin:
    """Where a value came from, e.g. model.yaml:12, KRONOS_TOKENIZER_PATH or --set predictor.epochs=2."""

    source: Literal["default", "file", "environment", "--set"]
    where: str


@dataclass(frozen=True)
class Loaded:
    """A valid model, its file, and the origin of each of `spec_leaves(model.spec)`."""

    model: KronosModel
    file: Path
    origins: Mapping[str, Origin]


def load_models(
    files: Sequence[Path], *, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> list[Loaded]:
    """The models in the files, in their order.

    `overrides` are `--set` texts such as "predictor.epochs=2"; they beat the environment, which beats the files, and
    apply to every model. Raises InvalidModel naming every problem in every file.
    """
    settings = edits_from_settings(overrides)
    loaded: list[Loaded] = []
    problems: list[Problem] = []
    first_seen: dict[tuple[str, str], str] = {}
    for file in files:
        try:
            documents = _read(file)
        except InvalidModel as error:
            problems += error.problems
            continue
        for document in documents:
            try:
                one = _load(file, document, settings, environ or {})
            except InvalidModel as error:
                problems += error.problems
                continue
            key = one.model.metadata.namespace, one.model.metadata.name
            if key in first_seen:
                line = document.lines.get(("metadata", "name"), document.line)
                message = f"model {'/'.join(key)} is already defined at {first_seen[key]}"
                problems.append(Problem(str(file), line, "metadata.name", message))
            else:
                first_seen[key] = f"{file}:{document.line}"
                loaded.append(one)
    if problems:
        raise InvalidModel(problems)
    return loaded


def spec_leaves(spec: Spec) -> dict[str, Any]:
    """Every value of a spec, defaults included, by its dotted path; a list is one value, empty ones are left out."""
    return {".".join(path): value for path, value in _leaves(spec)}


def _leaves(spec: Spec) -> Iterator[tuple[tuple[str, ...], Any]]:
    def walk(tree: Mapping[str, Any], at: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, value in tree.items():
            if isinstance(value, dict):
                yield from walk(value, (*at, name))
            elif value != []:
                yield (*at, name), value

    return walk(spec.model_dump(mode="json", by_alias=True, exclude_none=True), ())


def _read(file: Path) -> list[Document]:
    try:
        documents = read_documents(file.read_text(encoding="utf-8"))
    except YamlError as error:
        raise InvalidModel([Problem(str(file), error.line, "", str(error))]) from None
    except UnicodeDecodeError:
        raise InvalidModel([Problem(str(file), None, "", "is not text in UTF-8")]) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InvalidModel([Problem(str(file), None, "", f"cannot be read: {reason}")]) from None
    if not documents:
        raise InvalidModel([Problem(str(file), None, "", f"holds no {KIND}: the file is empty")])
    return documents


def _load(file: Path, document: Document, settings: Sequence[Edit], environ: Mapping[str, str]) -> Loaded:
    tree = _checked_tree(file, document)
    edits = [*_environment(tree, settings, environ), *settings]
    for edit in edits:
        apply(edit, tree)
    try:
        # As strict as the API server: no text for numbers, no Python spelling of names.
        model = KronosModel.model_validate_json(json.dumps(tree), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidModel([_problem(details, file, document, edits) for details in error.errors()]) from None
    return Loaded(model, file, _origins(model.spec, file, document, edits))


def _checked_tree(file: Path, document: Document) -> dict[str, Any]:
    """A copy of the document's value that is, so far as its head tells, a KronosModel without its status."""
    if document.flaws:
        flaws = document.flaws
        raise InvalidModel([Problem(str(file), line, field_name(path), message) for path, line, message in flaws])
    if not isinstance(document.value, dict):
        raise InvalidModel([Problem(str(file), document.line, "", f"is not a {KIND}: a mapping of fields is expected")])
    tree = copy.deepcopy(document.value)
    problems = []
    for name, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        if tree.get(name) != expected:
            line = document.lines.get((name,), document.line)
            found = f"found {tree[name]!r}" if name in tree else "it is absent"
            problems.append(Problem(str(file), line, name, f"must be {expected}; {found}"))
    if problems:
        raise InvalidModel(problems)
    tree.pop("status", None)
    if isinstance(tree.get("metadata"), dict):
        for name in _SERVER_METADATA:
            tree["metadata"].pop(name, None)
    return tree


def _environment(tree: Mapping[str, Any], settings: Sequence[Edit], environ: Mapping[str, str]) -> list[Edit]:
    spec = tree.get("spec")
    reports = isinstance(spec, dict) and "comet" in spec
    return edits_from_environment(
        environ, with_comet=reports or any(edit.path[:2] == ("spec", "comet") for edit in settings)
    )


def _problem(error: ErrorDetails, file: Path, document: Document, edits: Sequence[Edit]) -> Problem:
    path = error_path(error)
    where, line = _place(path, file, document, edits)
    return Problem(where, line, field_name(path), in_words(error))


def _place(path: Position, file: Path, document: Document, edits: Sequence[Edit]) -> tuple[str, int | None]:
    """What to correct: the override that set the value or part of it, else the nearest line of the file."""
    for edit in reversed(edits):
        if path[: len(edit.path)] == edit.path:
            return edit.where, None
    for end in range(len(path), 0, -1):
        here = path[:end]
        if here == path or here not in document.lines:
            for edit in reversed(edits):
                if edit.path[:end] == here:
                    return edit.where, None
        if here in document.lines:
            return str(file), document.lines[here]
    return str(file), document.line


def _origins(spec: Spec, file: Path, document: Document, edits: Sequence[Edit]) -> dict[str, Origin]:
    return {".".join(path): _origin(("spec", *path), file, document, edits) for path, _ in _leaves(spec)}


def _origin(path: tuple[str, ...], file: Path, document: Document, edits: Sequence[Edit]) -> Origin:
    for edit in reversed(edits):
        if path[: len(edit.path)] == edit.path:
            return Origin(edit.source, edit.where)
    if _is_given(document.value, path):
        return Origin("file", f"{file}:{document.lines[path]}")
    return Origin("default", "default")


def _is_given(tree: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(tree, dict) or name not in tree:
            return False
        tree = tree[name]
    return True
