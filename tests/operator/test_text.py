"""What may not reach a terminal or an object's status."""

from __future__ import annotations

import json
import sys

import pytest

from kronos_operator.text import plain, plain_json


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred\x9b0m", "red"),
        ("\x1b]0;title\x07name", "name"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP1$r\x1b\\x", "x"),
        ("\x1bc\x1b(Bx", "x"),
        ("\x1b]0;no end", "\ufffd]0;no end"),
        ("\x1b[", "\ufffd["),
        ("done\r\nand\rover", "done\nand\ufffdover"),
        ("a\x00b\x07c\x08d\x7fe\x85f", "a\ufffdb\ufffdc\ufffdd\ufffde\ufffdf"),
        ("\u202egpj.exe\u202c \u2066x\u2069", "\ufffdgpj.exe\ufffd \ufffdx\ufffd"),
        ("half \ud800", "half \ufffd"),
        ("\x1b\x1b[31m[31m", "\ufffd[31m"),
        ("tab\tnew\nline [red]ünï 行情 ✓[/]", "tab\tnew\nline [red]ünï 行情 ✓[/]"),
    ],
)
def test_text_is_made_plain(text: str, shown: str) -> None:
    assert plain(text) == shown
    assert plain(shown) == shown


def test_no_control_character_survives_whatever_stands_around_it() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    for text in (every, "\x1b".join(every[:300]), "\x9d".join(every[:300])):
        left = {ord(character) for character in plain(text)}
        unsafe = [*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
        assert left.isdisjoint(unsafe) and left.isdisjoint(range(0xD800, 0xE000))


def test_hostile_text_costs_no_more_than_other_text() -> None:
    """A search that starts anew at each of a million openings would not end within the timeout of the tests."""
    for opening in ("\x1b[", "\x1b]", "\x9d", "\x1bP0", "\x1b ", "\x9b0"):
        plain(opening * 1_000_000)


def test_a_json_document_keeps_its_values() -> None:
    value = {"message": "\x1b[31m \x9b \u202e \ud800 \t ü", "list": ["\x7f"]}
    document = plain_json(json.dumps(value, ensure_ascii=False, indent=2))
    assert json.loads(document) == value
    assert plain(document) == document
