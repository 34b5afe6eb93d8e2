"""The YAML documents of a file that are meant to be KronosModels, and what else it holds. Used by `loading`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kronos_operator.names import GROUP, KIND
from kronos_operator.problems import InvalidModel, Problem, nearest
from kronos_operator.sources import Source, unreadable
from kronos_operator.yaml_source import Document, YamlError, read_documents


@dataclass(frozen=True)
class Contents:
    """What a file holds; `others` names its other documents."""

    models: list[Document]
    others: list[str]


def contents_of(source: Source, *, lenient: bool) -> Contents:
    """The documents of a file. Raises InvalidModel where it cannot be read.

    Other objects are separated where the file holds a model beside them, or where that is `lenient`; else every
    document counts as a model, so that what it lacks of one is named.
    """
    try:
        raw = source.read()
    except OSError as error:
        raise InvalidModel([unreadable(source.name, error)]) from None
    if source.found and not _mentions_models(raw):
        return Contents([], [])  # nor is it parsed: it may be a template, or very long
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise InvalidModel([Problem(source.name, None, "", "is not text in UTF-8")]) from None
    try:
        documents = [part for document in read_documents(text) for part in _parts(document)]
    except YamlError as error:
        raise InvalidModel([Problem(source.name, error.line, "", str(error))]) from None
    if not documents and not lenient:
        raise InvalidModel([Problem(source.name, None, "", f"contains no {KIND}: the file is empty")])
    models = [document for document in documents if _is_meant(document)]
    if not models and not lenient:
        return Contents(documents, [])
    return Contents(models, [_called(one.value) for one in documents if not _is_meant(one)])


def _mentions_models(raw: bytes) -> bool:
    folded = raw.lower()
    return KIND.lower().encode() in folded or f"{GROUP}/".encode() in folded


def _parts(document: Document) -> Iterator[Document]:
    """The items of a list, as kubectl get -o yaml writes it; else the document itself."""
    value = document.value
    items = value.get("items") if isinstance(value, dict) and str(value.get("kind")).endswith("List") else None
    if not isinstance(items, list):
        yield document
        return
    for index, item in enumerate(items):
        at = ("items", index)
        yield Document(
            item,
            document.lines.get(at, document.line),
            {path[2:]: line for path, line in document.lines.items() if path[:2] == at and len(path) > 2},
            [(path[2:], line, message) for path, line, message in document.flaws if path[:2] == at],
        )


def _is_meant(document: Document) -> bool:
    """Whether a document is to be a KronosModel, be it a misspelt one."""
    value = document.value
    if not isinstance(value, dict):
        return False
    kind, version = str(value.get("kind", "")), str(value.get("apiVersion", ""))
    if not (kind or version):
        return "spec" in value
    return version.startswith(f"{GROUP}/") or nearest(kind, [KIND]) != ""


def _called(value: Any) -> str:
    """How a reader knows another object: Secret comet."""
    if not isinstance(value, dict) or "kind" not in value:
        return "a document that is no Kubernetes object"
    metadata = value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return f"{value['kind']} {name}" if isinstance(name, str) else str(value["kind"])
