"""`kronos diff --against REF`: what merging the files as they are now would train, and for how many GPU hours.

For a check of pull requests: both sides come from Git, the hours from what was last measured here or in a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kronos_operator.cli.changes import Change, StageEffect, body_of, changes
from kronos_operator.cli.costs import Cost, Measured, total
from kronos_operator.cli.values import value_text
from kronos_trainer.config import StageName

if TYPE_CHECKING:
    from kronos_operator.api import KronosModel


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What a merge would do to one model."""

    model: str
    change: str  # new, changed, unchanged or removed
    changes: tuple[Change, ...]
    stages: tuple[StageEffect, ...]
    cost: Cost

    @property
    def trains(self) -> bool:
        """Whether a stage of it would be trained."""
        return any(stage.action == "train" for stage in self.stages)


def merged(
    before: Mapping[str, KronosModel], after: Mapping[str, KronosModel], measured: Mapping[str, Measured]
) -> list[Merged]:
    """What becomes of every model of either side, by their keys."""
    return [
        _merged(key, before.get(key), after.get(key), measured.get(key)) for key in sorted(before.keys() | after.keys())
    ]


def markdown(found: Sequence[Merged]) -> str:
    """A comment for a pull request."""
    due = [one for one in found if one.trains]
    scored = [one for one in found if not one.trains and any(stage.action == "score" for stage in one.stages)]
    head = f"trains {_count(due)}{_hours_text(due)}" if due else "trains nothing"
    lines = [f"### Merging this {head}{f' and judges {_count(scored)} again' if scored else ''}", ""]
    told = [one for one in found if one.change != "unchanged"]
    if not told:
        return "\n".join([*lines, f"No model changes ({len(found)} looked at).", ""])
    lines += ["| model | change | stages | GPU hours |", "| --- | --- | --- | ---: |"]
    for one in told:
        stages = ", ".join(f"{stage.action} {stage.stage}" for stage in one.stages) or "–"
        lines.append(f"| {_cell(one.model)} | {one.change} | {stages} | {_cell(one.cost.in_words)} |")
    for one in told:
        if one.change == "changed":
            lines += ["", f"<details><summary>{_cell(one.model)}</summary>", "", "| field | before | after |"]
            lines += ["| --- | --- | --- |"]
            lines += [
                f"| {_cell(change.field)} | {_cell(_text(change.before))} | {_cell(_text(change.after))} |"
                for change in one.changes
            ]
            lines += ["", "</details>"]
    return "\n".join([*lines, ""])


def _merged(key: str, before: KronosModel | None, after: KronosModel | None, measured: Measured | None) -> Merged:
    from kronos_operator.hashing import stage_hashes

    if after is None:
        return Merged(model=key, change="removed", changes=(), stages=(), cost=Cost.of_nothing())
    old = {} if before is None else stage_hashes(before.spec)
    effects = [_effect(stage, old.get(stage), value) for stage, value in stage_hashes(after.spec).items()]
    found = tuple(changes(None if before is None else body_of(before), body_of(after)))
    due = [effect.stage for effect in effects if effect.action == "train"]
    return Merged(
        model=key,
        change="new" if before is None else "changed" if found else "unchanged",
        changes=found if before is not None else (),
        stages=tuple(effects),
        cost=Cost.of(due, None if before is None else before.spec, after.spec, measured),
    )


def _effect(stage: StageName, before: str | None, after: str) -> StageEffect:
    if before == after:
        return StageEffect(stage=stage, action="keep", reason=f"hash {after[:8]}")
    reason = f"hash {after[:8]}" if before is None else f"hash {before[:8]} → {after[:8]}"
    return StageEffect(stage=stage, action="train" if stage.has_weights else "score", reason=reason)


def _count(found: Sequence[Merged]) -> str:
    return f"{len(found)} model{'' if len(found) == 1 else 's'}"


def _hours_text(due: Sequence[Merged]) -> str:
    known, unknown = total(one.cost for one in due)
    if known is None:
        return ""
    return f", about {known:.1f} GPU hours{f' and {unknown} not measured yet' if unknown else ''}"


def _text(value: Any) -> str:
    return "–" if value is None else value_text(value)


def _cell(text: str) -> str:
    """Text inside a table of a comment, whatever a file holds."""
    for sign, instead in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\n", " "), ("@", "&#64;")):
        text = text.replace(sign, instead)
    return text
