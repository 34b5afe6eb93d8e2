"""Models by the names that users give them."""

from __future__ import annotations

from pydantic import ValidationError

from kronos_trainer.config import ModelRef
from kronos_trainer.errors import ConfigError


def model_of(namespace: str | None, name: str) -> ModelRef:
    """The model of a name, in the default namespace unless one is given. Raises ConfigError for an impossible name."""
    try:
        return ModelRef(namespace=namespace or "default", name=name)
    except ValidationError:
        given = name if namespace is None else f"{namespace}/{name}"
        raise ConfigError(f"{given} is not a valid model name: use lower-case letters, digits, - and .") from None
