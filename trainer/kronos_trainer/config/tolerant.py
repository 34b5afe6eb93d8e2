"""What one release writes and another reads: a bad value or an unknown field costs its reader nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError
from pydantic.alias_generators import to_camel

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0, le=2**62)]


class Tolerant(BaseModel):
    """Frozen, camelCase in JSON. A field that is absent, or has a value of another kind, has its default."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    _wire: Mapping[str, Any] | None = PrivateAttr(None)

    @classmethod
    def read(cls, wire: object) -> Self:
        """From the fields of a JSON object. Raises ValueError if it is none, or lacks what it cannot do without."""
        if not isinstance(wire, Mapping):
            raise ValueError(f"must be a JSON object; found a {type(wire).__name__}")
        try:
            read = cls.model_validate(wire)
        except ValidationError as error:
            bad = {item["loc"][0] for item in error.errors(include_url=False, include_input=False) if item["loc"]}
            read = cls.model_validate({name: value for name, value in wire.items() if name not in bad})
        read._wire = wire
        return read

    @classmethod
    def read_inside(cls, value: object) -> Self:
        """As `read`, for a field of another object: BeforeValidator(Part.read_inside)."""
        return value if isinstance(value, cls) else cls.read(value)

    @property
    def wire(self) -> dict[str, Any]:
        """The fields of the JSON object: as they were read, with those that are unknown here; else those given."""
        return self._given() if self._wire is None else dict(self._wire)

    @property
    def malformed(self) -> bool:
        """Whether a field that is known here was read with a value of another kind."""
        read = self._wire or {}
        fields = type(self).model_fields.items()
        return any(field.alias in read and name not in self.model_fields_set for name, field in fields)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, which no longer is what was read."""
        copy = super().model_copy(update=update, deep=deep)
        copy._wire = None
        return copy

    def _given(self) -> dict[str, Any]:
        fields = type(self).model_fields.items()
        return {
            field.alias or name: _json(getattr(self, name)) for name, field in fields if name in self.model_fields_set
        }


def _json(value: object) -> object:
    if isinstance(value, Tolerant):
        return value.wire
    if isinstance(value, Mapping):
        return {name: _json(one) for name, one in value.items()}
    return [_json(one) for one in value] if isinstance(value, list | tuple) else value
