"""The fenced blocks of README, CONTRIBUTING and docs, with the mark in a comment before each.

<!-- cluster: tests/e2e/test_x.py ... -->   needs a cluster; each line is a line of a string of one of these tests
<!-- not run: why -->                       names files of the reader's, or needs what no test has
<!-- yours: ... -->                         values that the reader sets
"""

from __future__ import annotations

import ast
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


def lines(code: str) -> list[str]:
    """The lines of a shell script that have commands: continued ones joined, without comments, spaces as one."""
    joined = [re.sub(r"(^|\s)#.*", "", line).split() for line in code.replace("\\\n", " ").splitlines()]
    return [" ".join(words) for words in joined if words]


def quoted(file: Path) -> set[str]:
    """The lines of a Python file's strings, as `lines` has them; parts of f-strings and docstrings do not count."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    other = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    other |= {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    strings = [node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in other]
    return {line for text in strings if isinstance(text, str) for line in lines(text)}


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
