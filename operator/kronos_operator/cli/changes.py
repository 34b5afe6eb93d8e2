"""What differs between two versions of a model: its fields, and the stages that are trained again for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kronos_operator.cli.terminal import print_line, print_table
from kronos_operator.cli.values import value_text
from kronos_operator.leaves import leaves

if TYPE_CHECKING:
    from kronos_operator.api import KronosModel
    from kronos_operator.kube import Object

_METADATA = ("labels", "annotations")


@dataclass(frozen=True, kw_only=True)
class Change:
    """A field by its path; None where it is absent."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, kw_only=True)
class StageEffect:
    """What becomes of a stage, and why."""

    stage: str
    action: str
    reason: str


def changes(before: Object | None, after: Object) -> list[Change]:
    """The fields of spec, labels and annotations that differ, by path. Without `before` everything does."""
    old, new = dict(_fields(before or {})), dict(_fields(after))
    return [
        Change(field=field, before=old.get(field), after=new.get(field))
        for field in sorted(old.keys() | new.keys())
        if old.get(field) != new.get(field)
    ]


def body_of(model: KronosModel) -> dict[str, Any]:
    """A model as `changes` compares it, with defaults."""
    body: dict[str, Any] = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return body


def show_changes(found: Sequence[Change]) -> None:
    """Print a table of changed fields."""
    print_table(
        ("field", "before", "after"),
        [[one.field, _text(one.before), _text(one.after)] for one in found],
    )


def show_effects(effects: Sequence[StageEffect]) -> None:
    """Print what becomes of each stage."""
    print_line()
    print_table(("stage", "plan", "why"), [[one.stage, one.action, one.reason] for one in effects])


def _text(value: Any) -> str:
    return "-" if value is None else value_text(value)


def _fields(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    metadata = body.get("metadata") or {}
    for name in _METADATA:
        for key, value in (metadata.get(name) or {}).items():
            yield f"metadata.{name}[{key}]", value
    for path, value in leaves(body.get("spec") or {}, ("spec",)):
        yield ".".join(path), value
