"""The protocol of a transfer: lines of JSON around a tar stream of the files."""

from __future__ import annotations

import hashlib
import pathlib
from typing import Annotated

from pydantic import AfterValidator, Field

from kronos_trainer.config.spec import Contract

# The longest line that either end takes: an offer of some 100,000 files.
LONGEST_LINE = 32 * 2**20


def _below(text: str) -> str:
    path = pathlib.PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or str(path) != text or text == "." or not text.isprintable():
        raise ValueError(f"must be a relative path without '..', such as us/daily; found {text!r}")
    return text


RelativePath = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_below)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Content(Contract):
    """What a file holds."""

    size: int = Field(ge=0, description="Bytes.")
    sha256: Sha256 = Field(description="SHA-256 of the bytes, in hex.")

    @classmethod
    def of(cls, file: pathlib.Path) -> Content:
        """The content of a file. Raises OSError."""
        with file.open("rb") as stream:
            return cls(sha256=hashlib.file_digest(stream, "sha256").hexdigest(), size=stream.tell())


class Offer(Contract):
    """What a sender has for a directory of the receiver's. The first line that it sends."""

    path: RelativePath | None = Field(None, description="The directory, relative to the receiver's root. Absent: that.")
    files: dict[RelativePath, Content] = Field(description="Files, by their path relative to the directory.")
    overwrite: bool = Field(False, description="Whether files that differ are replaced.")

    def id(self) -> str:
        """The same for the same files and directory, so that a transfer that broke off can go on."""
        return hashlib.sha256(self.model_dump_json(exclude={"overwrite"}).encode()).hexdigest()[:16]


class Wanted(Contract):
    """The receiver's answer to an offer: the tar stream has these files, in this order."""

    files: list[RelativePath] = Field(description="Files that are to be sent.")
    kept: int = Field(ge=0, description="Files that an earlier transfer, which broke off, has brought.")


class Landed(Contract):
    """The receiver's last line: everything is in place."""

    added: int = Field(ge=0, description="Files that were not there.")
    replaced: int = Field(ge=0, description="Files that held something else.")
    unchanged: int = Field(ge=0, description="Files that were there.")
    others: int = Field(ge=0, description="Files of bars in the directory that were not offered, and stay.")
