"""Reads KronosModel files, applies overrides, and records where every value came from. Called by the command line."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from kronos_operator.api import KronosModel, Spec
from kronos_operator.documents import contents_of
from kronos_operator.leaves import leaves
from kronos_operator.names import API_VERSION, KIND
from kronos_operator.overrides import Edit, apply, edits_from_environment, edits_from_options
from kronos_operator.problems import InvalidModel, Problem, error_path, field_name, in_words
from kronos_operator.sources import Source, home_of, sources_of
from kronos_operator.yaml_source import Document, Position

__all__ = ["InvalidModel", "Loaded", "Origin", "Problem", "Reading", "load_models", "read_models", "spec_leaves"]

# An object exported from a cluster carries these; they mean nothing to a run of the file.
_SERVER_METADATA = ("managedFields", "ownerReferences", "finalizers", "selfLink", "deletionGracePeriodSeconds")


@dataclass(frozen=True)
class Origin:
    """Where a value came from, e.g. model.yaml:12, KRONOS_TOKENIZER_PATH or --set predictor.epochs=2."""

    source: Literal["default", "file", "environment", "--set"]
    where: str


@dataclass(frozen=True)
class Loaded:
    """A valid model, its file, and the origin of each of `spec_leaves(model.spec)`.

    `bars` is where a relative `data.source.path` led when the model was run, of the copy that a run keeps.
    """

    model: KronosModel
    file: Path
    origins: Mapping[str, Origin]
    bars: str | None = None

    def base_of(self, field: str) -> Path:
        """Where a relative path in a field starts: at the file, or where the command is if an override names it."""
        origin = self.origins.get(field)
        return home_of(self.file) if origin is None or origin.source == "file" else Path.cwd()


@dataclass
class Reading:
    """What a command was given: models, problems, and notes."""

    models: list[Loaded] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def load_models(
    paths: Sequence[Path], *, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> list[Loaded]:
    """The models that `read_models` finds. Raises InvalidModel naming every problem in every file."""
    reading = read_models(paths, overrides=overrides, environ=environ)
    if reading.problems:
        raise InvalidModel(reading.problems)
    return reading.models


def read_models(
    paths: Sequence[Path],
    *,
    listed: bool = False,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Reading:
    """The models in files, in directories and on standard input (-), in their order.

    `overrides` are `--set` texts such as "predictor.epochs=2"; they beat the environment, which beats the files, and
    apply to every model. What is no KronosModel is skipped where it was found beside models: in a directory, in one
    file with them, or in a list of files (`listed`), as the shell makes of *.yaml. Named by itself, it is a problem.
    Raises InvalidModel for what concerns no single file.
    """
    options = edits_from_options(overrides)
    reading = Reading()
    first_seen: dict[tuple[str, str], str] = {}
    strangers: list[tuple[str, str]] = []
    for source in sources_of(paths):
        try:
            contents = contents_of(source, lenient=listed or source.found)
        except InvalidModel as error:
            reading.problems += error.problems
            continue
        if contents.others or not contents.models:
            strangers.append((source.name, ": ".join(filter(None, (f"no {KIND}", ", ".join(contents.others))))))
        for document in contents.models:
            try:
                one = _load(source, document, options, environ or {})
            except InvalidModel as error:
                reading.problems += error.problems
                continue
            key = one.model.metadata.namespace, one.model.metadata.name
            if key in first_seen:
                line = document.lines.get(("metadata", "name"), document.line)
                message = f"model {'/'.join(key)} is already defined at {first_seen[key]}"
                reading.problems.append(Problem(source.name, line, "metadata.name", message))
            else:
                first_seen[key] = f"{source.name}:{document.line}"
                reading.models.append(one)
    if reading.models or reading.problems:
        reading.notes = [f"{name}: skipped, {what}" for name, what in strangers]
    else:
        reading.problems = [Problem(name, None, "", f"contains {what}") for name, what in strangers]
    return reading


def spec_leaves(spec: Spec) -> dict[str, Any]:
    """Every value of a spec, defaults included, by its dotted path; a list is one value, empty ones are left out."""
    return {".".join(path): value for path, value in _leaves(spec)}


def _leaves(spec: Spec) -> Iterator[tuple[tuple[str, ...], Any]]:
    tree = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return ((path, value) for path, value in leaves(tree) if value != [])


def _load(source: Source, document: Document, options: Sequence[Edit], environ: Mapping[str, str]) -> Loaded:
    tree = _checked_tree(source, document)
    edits = [*_environment(tree, options, environ), *options]
    for edit in edits:
        apply(edit, tree)
    try:
        # As strict as the API server: no text for numbers, no Python spelling of names.
        model = KronosModel.model_validate_json(json.dumps(tree), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidModel([_problem(details, source, document, edits) for details in error.errors()]) from None
    return Loaded(model, source.file, _origins(model.spec, source, document, edits))


def _checked_tree(source: Source, document: Document) -> dict[str, Any]:
    """A copy of the document's value that is, by its head a KronosModel without its status."""
    if document.flaws:
        flaws = document.flaws
        raise InvalidModel([Problem(source.name, line, field_name(path), message) for path, line, message in flaws])
    if not isinstance(document.value, dict):
        raise InvalidModel(
            [Problem(source.name, document.line, "", f"is not a {KIND}: a mapping of fields is expected")]
        )
    tree = copy.deepcopy(document.value)
    problems = []
    for name, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        if tree.get(name) != expected:
            line = document.lines.get((name,), document.line)
            found = f"found {tree[name]!r}" if name in tree else "it is absent"
            problems.append(Problem(source.name, line, name, f"must be {expected}; {found}"))
    if problems:
        raise InvalidModel(problems)
    tree.pop("status", None)
    if isinstance(tree.get("metadata"), dict):
        for name in _SERVER_METADATA:
            tree["metadata"].pop(name, None)
    return tree


def _environment(tree: Mapping[str, Any], options: Sequence[Edit], environ: Mapping[str, str]) -> list[Edit]:
    spec = tree.get("spec")
    reports = isinstance(spec, dict) and "comet" in spec
    return edits_from_environment(
        environ, with_comet=reports or any(edit.path[:2] == ("spec", "comet") for edit in options)
    )


def _problem(error: ErrorDetails, source: Source, document: Document, edits: Sequence[Edit]) -> Problem:
    path = error_path(error)
    where, line = _place(path, source, document, edits)
    return Problem(where, line, field_name(path), in_words(error))


def _place(path: Position, source: Source, document: Document, edits: Sequence[Edit]) -> tuple[str, int | None]:
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
            return source.name, document.lines[here]
    return source.name, document.line


def _origins(spec: Spec, source: Source, document: Document, edits: Sequence[Edit]) -> dict[str, Origin]:
    return {".".join(path): _origin(("spec", *path), source, document, edits) for path, _ in _leaves(spec)}


def _origin(path: tuple[str, ...], source: Source, document: Document, edits: Sequence[Edit]) -> Origin:
    for edit in reversed(edits):
        if path[: len(edit.path)] == edit.path:
            return Origin(edit.source, edit.where)
    if _is_given(document.value, path):
        return Origin("file", f"{source.name}:{document.lines[path]}")
    return Origin("default", "default")


def _is_given(tree: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(tree, dict) or name not in tree:
            return False
        tree = tree[name]
    return True
