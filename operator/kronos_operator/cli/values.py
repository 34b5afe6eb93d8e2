"""The effective values of a model and where each comes from, as `kronos plan` lists them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded


def effective_values(loaded: Loaded, *, defaults: bool) -> list[dict[str, Any]]:
    """Field, value and origin of every value that was given; with `defaults`, of every value."""
    from kronos_operator.loading import spec_leaves

    values = spec_leaves(loaded.model.spec)
    return [
        {"field": field, "value": values[field], "source": origin.source, "where": origin.where}
        for field, origin in loaded.origins.items()
        if defaults or origin.source != "default"
    ]


def value_text(value: Any) -> str:
    """A value as YAML would show it on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
