"""Links of the pages to files outside docs/: right in the repository, and text in the site, which has no such files."""

from __future__ import annotations

import re

_LINK = re.compile(r"\[([^\]]+)\]\(\.\./([^)#\s]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by mkdocs for each page."""
    return _LINK.sub(_as_text, markdown)


def _as_text(link: re.Match[str]) -> str:
    label, path = link[1], link[2]
    return label if label.strip("`") == path else f"{label} (`{path}`)"
