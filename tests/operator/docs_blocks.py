"""The fenced blocks of README, CONTRIBUTING and docs, with the mark in a comment before each.

<!-- cluster: tests/e2e/test_x.py -->     needs a cluster; that test runs the same commands, or the block itself
<!-- gpu: FILE -->                        needs a GPU; FILE is what checks it there
<!-- not run: why -->                     names files of the reader's
<!-- yours: ... -->                       values that the reader sets
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[a-z ]+): (?P<about>[^>]*) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)
_ENDS = {"&&", "||", "|", ";"}


@dataclass(frozen=True)
class Block:
    """A block: its page and line, its language, and its mark with what stands after it."""

    page: Path
    line: int
    language: str
    code: str
    mark: str | None
    about: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in its order."""
    text = page.read_text()
    return [
        Block(
            page=page,
            line=text[: found.start("language")].count("\n") + 1,
            language=found["language"],
            code=found["code"],
            mark=found["mark"],
            about=found["about"] or "",
        )
        for found in _BLOCK.finditer(text)
    ]


def commands(code: str) -> list[list[str]]:
    """The words of each command of a shell block, without comments and the variables set for it."""
    found: list[list[str]] = []
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in _ENDS:
                found += [words] if words else []
                words = []
            elif words or not re.match(r"[A-Z_]+=", word):
                words.append(word)
    return found
