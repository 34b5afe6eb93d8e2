"""The scalars of a status: texts that are safe and never too long, counts, and times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from kronos_operator.text import plain
from kronos_trainer.config import utc_text

_LONGEST_NAME, _MOST_METRICS = 64, 64


def _plain(length: int) -> BeforeValidator:
    """Makes text of others safe for terminals, and cuts it."""
    return BeforeValidator(lambda value: plain(value)[:length] if isinstance(value, str) else value)


def _cut(length: int) -> BeforeValidator:
    return BeforeValidator(lambda value: value[:length] if isinstance(value, str) else value)


def _few(value: object) -> object:
    """The first numbers of a trainer's, by names of bearable length."""
    if not isinstance(value, dict):
        return value
    return dict([(name, one) for name, one in value.items() if 1 <= len(str(name)) <= _LONGEST_NAME][:_MOST_METRICS])


def _seconds(value: object) -> object:
    """Seconds since the epoch of an RFC 3339 text. Raises ValueError for one that is no time or has no time zone."""
    if not isinstance(value, str):
        return value
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"{value} has no time zone")
    # Beyond these, a time has no equivalent in other time zones.
    return min(max(moment.timestamp(), 0.0), 253_000_000_000.0)


def rfc3339(seconds: float) -> str:
    """The moment in UTC, to the second: what is written must be the same when it is read again."""
    return utc_text(datetime.fromtimestamp(int(seconds), UTC), "seconds")


# Texts of trainers, kubelets and users, which are read on terminals.
Text = Annotated[str, _plain(1024), Field(max_length=1024)]
Word = Annotated[str, _plain(64), Field(max_length=64)]
LongText = Annotated[str, _plain(4096), Field(max_length=4096)]
Note = Annotated[str, _plain(256), Field(max_length=256)]
LogTail = Annotated[str, _plain(2048), Field(max_length=2048)]
Day = Annotated[str, _plain(10), Field(max_length=10)]  # YYYY-MM-DD
Digest = Annotated[str, _plain(128), Field(min_length=1, max_length=128)]

Id = Annotated[str, Field(min_length=1, max_length=128)]
Reason = Annotated[str, _cut(128), Field(max_length=128)]
RequestText = Annotated[str, _cut(256), Field(max_length=256)]  # of an annotation, or of a tick of the schedule
Hash = Annotated[str, Field(min_length=8, max_length=64)]
Count = Annotated[int, Field(ge=0)]
Metrics = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME)], float],
    Field(max_length=_MOST_METRICS),
    BeforeValidator(_few),
]

# Seconds since the epoch here, RFC 3339 on the wire.
Moment = Annotated[
    float,
    BeforeValidator(_seconds),
    PlainSerializer(rfc3339, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
