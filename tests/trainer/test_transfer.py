"""What a pod does with files that are sent to it, and what it sends: complete or not at all, and nowhere else."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from kronos_trainer.config import Content, Landed, Offer, Wanted
from kronos_trainer.errors import ConfigError, DataError, InputMissing, Stopped
from kronos_trainer.transfer import STAGING, receive, send

FILES = {"IBM.csv": b"1,2,3\n" * 40_000, "more/FB.csv": b"4,5\n"}


def offer(files: dict[str, bytes], path: str | None = "us/daily", *, overwrite: bool = False) -> Offer:
    contents = {
        name: Content(size=len(content), sha256=hashlib.sha256(content).hexdigest()) for name, content in files.items()
    }
    return Offer(path=path, files=contents, overwrite=overwrite)


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    (tmp_path / "claim").mkdir()
    return tmp_path / "claim"


def archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def take(claim: Path, offered: Offer, tar: bytes) -> tuple[Wanted, Landed]:
    """What the receiver answers. Its input does not end after the archive, as it does not in a cluster."""
    answers = io.BytesIO()
    receive(claim, NeverEnding(offered.model_dump_json(by_alias=True).encode() + b"\n" + tar), answers)
    first, last = answers.getvalue().splitlines()
    return Wanted.model_validate_json(first), Landed.model_validate_json(last)


class NeverEnding(io.BytesIO):
    """A connection that stays open: to read beyond what was sent would wait for ever."""

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        assert data or size == 0, "read beyond the end of what was sent"
        return data


def tree(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
    }


def test_a_directory_appears_whole_with_the_content_that_was_offered(claim: Path) -> None:
    wanted, landed = take(claim, offer(FILES), archive(FILES))
    assert wanted == Wanted(files=list(FILES), kept=0)
    assert landed == Landed(added=2, replaced=0, unchanged=0, others=0)
    assert tree(claim) == {f"us/daily/{name}": content for name, content in FILES.items()}


def test_what_is_there_already_is_not_sent_again(claim: Path) -> None:
    take(claim, offer(FILES), archive(FILES))
    more = FILES | {"GE.csv": b"6\n"}
    wanted, landed = take(claim, offer(more), archive({"GE.csv": b"6\n"}))
    assert wanted.files == ["GE.csv"]
    assert landed == Landed(added=1, replaced=0, unchanged=2, others=0)
    _, landed = take(claim, offer({"GE.csv": b"6\n"}), archive({}))
    assert landed == Landed(added=0, replaced=0, unchanged=1, others=2)


def test_files_that_differ_are_replaced_only_on_request(claim: Path) -> None:
    take(claim, offer(FILES), archive(FILES))
    before = tree(claim)
    changed = FILES | {"IBM.csv": b"other\n"}
    with pytest.raises(ConfigError, match=r"IBM\.csv; replace them with --overwrite"):
        take(claim, offer(changed), archive({"IBM.csv": b"other\n"}))
    assert tree(claim) == before
    _, landed = take(claim, offer(changed, overwrite=True), archive({"IBM.csv": b"other\n"}))
    assert landed == Landed(added=0, replaced=1, unchanged=1, others=0)
    assert tree(claim) == {f"us/daily/{name}": content for name, content in changed.items()}


def test_a_transfer_that_broke_off_shows_nothing_and_goes_on_with_what_is_missing(claim: Path) -> None:
    files = {"A.csv": b"a" * 50_000, "B.csv": b"b" * 50_000}
    answers = io.BytesIO()
    line = offer(files).model_dump_json(by_alias=True).encode() + b"\n"
    with pytest.raises(Stopped):
        receive(claim, io.BytesIO(line + archive(files)[:80_000]), answers)
    assert not (claim / "us").exists()
    assert all(name.startswith(STAGING) for name in tree(claim))
    wanted, landed = take(claim, offer(files), archive({"B.csv": files["B.csv"]}))
    assert wanted == Wanted(files=["B.csv"], kept=1)
    assert landed.added == 2
    assert tree(claim) == {f"us/daily/{name}": content for name, content in files.items()}


def hostile(kind: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = tarfile.TarInfo("../../outside.csv" if kind == "above" else "IBM.csv")
        content = FILES["IBM.csv"]
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        else:
            content = content[:-1] + b"!" if kind == "content" else content[:-1] if kind == "size" else content
            member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("above", "does not match the offer"),
        ("link", "does not match the offer"),
        ("size", "does not match the offer"),
        ("content", "changed while"),
    ],
)
def test_a_stream_that_is_not_what_was_offered_changes_nothing(claim: Path, kind: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        take(claim, offer({"IBM.csv": FILES["IBM.csv"]}), hostile(kind))
    assert tree(claim) == {}
    assert not (claim.parent / "outside.csv").exists()


@pytest.mark.parametrize("path", ["../x", "/etc", "us/../../x", ".", "us//daily", "a\nb"])
def test_paths_that_lead_elsewhere_are_refused(claim: Path, path: str) -> None:
    good = json.loads(offer(FILES).model_dump_json())
    for bad in (good | {"path": path}, good | {"files": {path: good["files"]["IBM.csv"]}}):
        with pytest.raises(DataError, match="without"):
            receive(claim, io.BytesIO(json.dumps(bad).encode() + b"\n"), io.BytesIO())


def test_remains_of_transfers_that_nobody_takes_up_are_removed(claim: Path) -> None:
    old, young, foreign = (claim / f"{STAGING}{name}" for name in ("0" * 16, "1" * 16, "notes"))
    for place in (old, young, foreign):
        place.mkdir()
    week_ago = time.time() - 8 * 24 * 3600
    for place in (old, foreign):
        os.utime(place, (week_ago, week_ago))
    take(claim, offer(FILES), archive(FILES))
    assert not old.exists() and young.exists() and foreign.exists()


def test_sends_files_and_directories_but_nothing_half_written(claim: Path) -> None:
    take(claim, offer(FILES), archive(FILES))
    (claim / "us/daily/.aside-GE.csv").write_bytes(b"half")
    stream = io.BytesIO()
    send(claim, ["us/daily/IBM.csv", "us/daily/more"], stream)
    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as tar:
        found: dict[str, Any] = {member.name: tar.extractfile(member) for member in tar}
        assert {name: one.read() for name, one in found.items()} == {f"us/daily/{k}": v for k, v in FILES.items()}


def test_sends_nothing_where_something_is_missing(claim: Path) -> None:
    take(claim, offer(FILES), archive(FILES))
    stream = io.BytesIO()
    with pytest.raises(InputMissing, match="absent does not exist"):
        send(claim, ["us/daily/IBM.csv", "absent"], stream)
    assert stream.getvalue() == b""
