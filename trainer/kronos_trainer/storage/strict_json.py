"""JSON without NaN or infinity, which most readers reject: they become null. Used by everything that writes JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping


def strict(value: object) -> object:
    """The value with every float that is not finite replaced by None, mappings as dicts and tuples as lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return value


def line(value: object) -> str:
    """One line of compact JSON, without the newline."""
    return json.dumps(strict(value), separators=(",", ":"), allow_nan=False)


def document(value: object) -> str:
    """Indented JSON for a file that people read too."""
    return json.dumps(strict(value), indent=2, allow_nan=False) + "\n"
