"""Text that others have written, made safe to print on a terminal and to keep in an object's status.

Whoever can write to a trainer's log, or name a symbol in a file of bars, could otherwise colour, overwrite or reorder
what an administrator reads.
"""

from __future__ import annotations

import re

# Sequences of a terminal, whole, so that a coloured log stays readable: CSI (colours, the cursor), strings up to their
# end (titles, links), and the short ones. Strings hold no control characters, which keeps the search linear.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x00-\x1f\x7f-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-Z\\^-~]"
)
# What is left of control characters but tabs and ends of lines, the characters that turn the direction of the text
# around, and halves of characters, which no stream can write.
_UNSAFE = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROLS = re.compile(f"[{_UNSAFE}]")


def plain(text: str) -> str:
    """The text without terminal sequences, and with U+FFFD for each other character that is not to be printed.

    Tabs and ends of lines stay, the latter as newlines alone.
    """
    if text.isprintable():
        return text  # nearly all are, and a status has dozens
    return _CONTROLS.sub("\ufffd", _SEQUENCES.sub("", text.replace("\r\n", "\n")))


def plain_json(document: str) -> str:
    r"""A JSON document with the same values, whose unsafe characters are written as \uXXXX."""
    # Between values JSON has only ends of lines and blanks, so what is found here stands in a string.
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", document)
