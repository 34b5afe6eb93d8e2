"""The values in a tree of plain mappings by their paths, as tables and comparisons of fields list them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(tree: Mapping[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that is no mapping, with its path below `at`; a list is one value, and an empty mapping none."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*at, name))
        else:
            yield (*at, name), value
