"""The commands of docs/quickstart-cluster.md, taken from its own text.

Every block of `sh` is run, in the order of the page and in one shell, but for those after a comment `<!-- not run: why
-->`. In the block after `<!-- yours: ... -->` each value is replaced by the test's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/quickstart-cluster.md"
_BLOCK = re.compile(r"(?:<!-- (?P<mark>[a-z ]+):[^>]*-->\n)?```sh\n(?P<code>.*?)```", re.DOTALL)


def script(values: Mapping[str, str]) -> str:
    """The page as one script, with these values of its own names."""
    parts = ["set -x"]
    for block in _BLOCK.finditer(PAGE.read_text()):
        mark, code = block["mark"], block["code"]
        assert mark in (None, "yours", "not run"), f"an unknown mark: {mark}"
        if mark == "yours":
            assert re.findall(r"^(\w+)=", code, re.MULTILINE) == list(values)
            code = "".join(f"{name}={value}\n" for name, value in values.items())
        if mark != "not run":
            parts.append(code)
    assert len(parts) > 5, "the page has lost its commands"
    return "\n".join(parts)
