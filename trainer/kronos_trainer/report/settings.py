"""What a run was configured with, and which of it differs from the defaults. Called by facts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kronos_trainer.config import RunConfig

_PARTS = ("data", "window", "training", "evaluation", "promotion", "checkpoint", "progress", "comet")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One field of a spec. `default` is None where it has none, or where that is nothing."""

    field: str
    value: object
    default: object
    differs: bool


def settings(run: RunConfig) -> tuple[Setting, ...]:
    """Every field of the run's spec that says how it is trained and judged, in its order."""
    parts = [*(stage.value for stage in run.stages), *_PARTS]
    rows = [Setting(field="timeframe", value=run.timeframe.value, default=None, differs=True)]
    for name in dict.fromkeys(parts):
        value = getattr(run, name, None)
        if isinstance(value, BaseModel):
            rows += _of(value, name)
    order = {"timeframe": 0, "data": 1, "window": 2}
    return tuple(sorted(rows, key=lambda row: order.get(row.field.split(".")[0], 3)))


def _of(part: BaseModel, path: str) -> Iterator[Setting]:
    for name, info in type(part).model_fields.items():
        value, field = getattr(part, name), f"{path}.{info.alias or name}"
        default = _default(info)
        if isinstance(value, BaseModel):
            if default is not None and value == default:
                yield Setting(field=field, value=_short(value), default=_short(default), differs=False)
            elif _one_of(value):
                yield Setting(field=field, value=_short(value), default=_short(default), differs=True)
            else:
                yield from _of(value, field)
        else:
            yield Setting(field=field, value=_short(value), default=_short(default), differs=value != default)


def _default(info: FieldInfo) -> object:
    return None if info.is_required() else info.get_default(call_default_factory=True, validated_data={})


def _one_of(value: BaseModel) -> bool:
    """Whether one field of it is set: it is read best as one value."""
    return len(value.model_dump(exclude_none=True)) == 1


def _short(value: object) -> object:
    """A value as one reads it: `hub NeoQuasar/Kronos-small`, `0.9, 0.95`."""
    if isinstance(value, BaseModel):
        return _words(value.model_dump(by_alias=True, exclude_none=True, mode="json"))
    if isinstance(value, list | tuple):
        return ", ".join(str(_short(one)) for one in value)
    return value


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(one)}" for name, one in value.items())
    return str(value)
