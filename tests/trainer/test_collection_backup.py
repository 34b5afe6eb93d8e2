"""`kronos backup` and `restore`: what comes back is what was there, and nothing else ever does."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kronos_trainer.collection.__main__ import main
from kronos_trainer.config import RunConfig, RunPaths
from kronos_trainer.report.showing import latest_first
from kronos_trainer.storage import durable
from kronos_trainer.storage.lock import model_lock
from kronos_trainer.storage.pointers import current, runs

Output = pytest.CaptureFixture[str]


Fill = Callable[..., RunConfig]


@pytest.fixture
def filled(make_run: Fill) -> Fill:
    """Makes a model with runs: root, name, runs."""
    return functools.partial(fill, make_run)


def fill(make_run: Fill, root: Path, name: str, *names: str, namespace: str = "default") -> RunConfig:
    """A model with runs, the later ones of these names the older, the first one published."""
    run = make_run(model={"namespace": namespace, "name": name}, run=names[0], output=str(root))
    paths = run.paths()
    for age, one in enumerate(names):
        for number, file in enumerate(("run.json", "best/model.safetensors", "checkpoints/step-1/weights")):
            place = paths.runs / one / "predictor" / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(f"{name} {one} {file}".encode() * 1000)
            os.utime(place, (1e9 - 1000.25 * age + number, 1e9 - 1000.25 * age + number))
    paths.current.write_text(json.dumps({"run": names[0], "previous": names[-1]}))
    paths.readings.write_text('{"version": 1, "readings": []}')
    durable.write_text(paths.trials, f'{{"version": 1, "trials": [{{"run": "{names[0]}"}}]}}')
    return run


def tree(root: Path) -> dict[str, tuple[str, float]]:
    """Digest and time of each file that outlives a process."""
    return {
        path.relative_to(root).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime)
        for path in root.rglob("*")
        if path.is_file() and "flock" not in path.name and path.name not in ("lock.json",)
    }


def backup(root: Path, to: Path, *options: str) -> int:
    return main(["backup", *options, "--root", str(root), "--to", str(to)])


def restore(archive: Path, root: Path) -> int:
    return main(["restore", str(archive), "--root", str(root)])


@pytest.mark.parametrize("name", ["all.tar", "all.tar.gz"])
def test_what_comes_back_is_what_was_there(tmp_path: Path, filled: Fill, capsys: Output, name: str) -> None:
    one, there, archive = tmp_path / "one", tmp_path / "there", tmp_path / name
    run = filled(one, "a", "run-1", "run-2")
    filled(one, "b", "run-1", namespace="team")
    (run.paths().runs / ".pull-x").mkdir()
    (run.paths().runs / ".pull-x" / "half").write_text("")
    (run.paths().run_dir / "predictor" / "checkpoints" / ".aside-step-2").mkdir()
    (run.paths().run_dir / "predictor" / "checkpoints" / ".aside-step-2" / "weights").write_text("half")
    assert backup(one, archive) == 0
    assert capsys.readouterr().out.startswith(f"{archive}: a, team/b; 15 files, ")
    assert (archive.read_bytes()[:2] == b"\x1f\x8b") == name.endswith("gz")
    assert backup(one, archive) == 64
    assert restore(archive, there) == 0
    assert capsys.readouterr().out == "a: 2 runs put back\nteam/b: 1 run put back\n"
    assert tree(there) == {
        name: file for name, file in tree(one).items() if "/.pull" not in name and ".aside" not in name
    }
    # Which run was the latest is told by times.
    assert [paths.run_dir.name for paths in latest_first(there, run.model)] == ["run-1", "run-2"]
    found = {path.name for path in there.iterdir() if not path.name.endswith(".flock")}
    assert found == {"models", "backtest_results"}
    assert {path.name for path in (there / "backtest_results").iterdir()} == {"a", "team_b"}
    # Again, it changes nothing; and what was published here since stays published.
    (there / "models/default/a/current.json").write_text('{"run": "run-2"}')
    (there / "backtest_results/a/trials.json").write_text('{"version": 1, "trials": []}')
    before = tree(there)
    assert restore(archive, there) == 0 and tree(there) == before
    assert "a: 2 runs here already; kept as here: current.json, trials.json\n" in capsys.readouterr().out


def test_only_one_model(tmp_path: Path, filled: Fill, capsys: Output) -> None:
    root = tmp_path / "one"
    filled(root, "a", "run-1")
    run = filled(root, "b", "run-1")
    assert backup(root, tmp_path / "b.tar", "b") == 0 and restore(tmp_path / "b.tar", tmp_path / "two") == 0
    assert [path.name for path in (tmp_path / "two/models/default").iterdir()] == ["b"]
    capsys.readouterr()
    with model_lock(run.paths(), run):
        assert backup(root, tmp_path / "c.tar") == 74
        assert "run run-1, stage tokenizer, attempt 0" in capsys.readouterr().err
    (run.paths().run_dir / "link").symlink_to("/etc/passwd")
    for options, code, words in (
        ((), 65, "neither a file"),
        (("c",), 66, "no run of c"),
        (("-n", "x"), 66, "namespace x"),
    ):
        assert backup(root, tmp_path / "c.tar", *options) == code
        assert words in capsys.readouterr().err
    assert main(["backup", "--root", "s3://bucket", "--to", str(tmp_path / "c.tar")]) == 64
    assert not (tmp_path / "c.tar").exists() and not list(tmp_path.glob(".aside*"))


def test_a_run_that_differs_is_never_replaced(tmp_path: Path, filled: Fill, capsys: Output) -> None:
    root, archive = tmp_path / "one", tmp_path / "all.tar"
    filled(root, "a", "run-1")
    run = filled(root, "b", "run-1", "run-2")
    assert backup(root, archive) == 0
    there = tmp_path / "there"
    other = filled(there, "b", "run-1")
    weights = other.paths().run_dir / "predictor/best/model.safetensors"
    weights.write_text("others")
    before = tree(there)
    assert restore(archive, there) == 64
    assert "run run-1 of b is here already and differs (predictor/best/model.safetensors)" in capsys.readouterr().err
    assert tree(there) == before and not (there / "models/default/a").exists()
    weights.unlink()  # one file less is another run, too
    assert restore(archive, there) == 64
    with model_lock(run.paths(), run):
        assert restore(archive, root) == 74


def made(path: Path, manifest: dict[str, Any] | None, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """An archive that kronos backup would not write."""
    with tarfile.open(path, "w") as tar:
        for info, content in [
            *([(member("manifest.json"), json.dumps(manifest).encode())] if manifest else []),
            *members,
        ]:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def listed(*names: str, content: bytes = b"x") -> dict[str, Any]:
    digest = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {"version": 1, "created": "", "files": dict.fromkeys(names, digest)}


FILE = "models/default/a/runs/r/predictor/run.json"


@pytest.mark.parametrize(
    "manifest, members, words",
    [
        (listed("../out"), [(member("../out"), b"x")], "relative path without '..'"),
        (listed("/out"), [(member("/out"), b"x")], "relative path"),
        (listed(FILE), [(member(FILE), b"x"), (member("../out"), b"x")], "holds ../out"),
        (listed(FILE), [(member(FILE), b"x"), (member(FILE), b"x")], "holds models/"),
        (listed(FILE), [(member(FILE, tarfile.SYMTYPE, "/etc/passwd"), b"")], "holds models/"),
        (listed(FILE), [(member(FILE, tarfile.LNKTYPE, "/etc/passwd"), b"")], "holds models/"),
        (listed(FILE), [(member(FILE, tarfile.FIFOTYPE), b"")], "holds models/"),
        (listed(FILE), [(member(FILE), b"xx")], "holds models/"),
        (listed(FILE), [(member(FILE), b"y")], "its SHA-256 is another"),
        (listed(FILE), [], "incomplete"),
        (listed("logs/x"), [(member("logs/x"), b"x")], "belongs to no model"),
        (listed("models/default/a/lock.json"), [], "belongs to no model"),
        (listed("models/default/a/runs/.x/y"), [], "belongs to no model"),
        (listed("models/default/A!/runs/r/y"), [], "belongs to no model"),
        (listed("backtest_results/A!/trials.json"), [], "belongs to no model"),
        (listed("backtest_results/default_a/trials.json"), [], "belongs to no model"),
        (listed("backtest_results/a/b/runs/r/y"), [], "belongs to no model"),
        (listed("backtest_results/trials.json"), [], "belongs to no model"),
        (listed(FILE) | {"version": 2}, [(member(FILE), b"x")], "of a newer release"),
        (None, [(member(FILE), b"x")], "does not begin with manifest.json"),
        (listed(FILE) | {"more": 1}, [], "manifest.json: more"),
    ],
)
def test_what_backup_has_not_written_is_refused(
    tmp_path: Path,
    capsys: Output,
    manifest: dict[str, Any] | None,
    members: list[tuple[tarfile.TarInfo, bytes]],
    words: str,
) -> None:
    archive, root = made(tmp_path / "bad.tar", manifest, members), tmp_path / "a" / "root"
    assert restore(archive, root) == 65
    assert words in capsys.readouterr().err
    assert [path.name for path in root.iterdir()] == [".aside-restore.flock"] and not (tmp_path / "a" / "out").exists()


def test_a_damaged_archive_is_refused_whole(tmp_path: Path, filled: Fill, capsys: Output) -> None:
    root = tmp_path / "one"
    filled(root, "a", "run-1", "run-2")
    for name in ("all.tar", "all.tar.gz"):
        archive, there = tmp_path / name, tmp_path / f"{name}-there"
        assert backup(root, archive) == 0
        whole = archive.read_bytes()
        for damaged in (
            whole[: len(whole) // 2],
            whole[:-20_000].replace(b"run-1 run.json", b"run-1 run_json") + whole[-20_000:],
        ):
            if damaged == whole:
                continue  # packed, where the words are not to be found
            archive.write_bytes(damaged)
            assert restore(archive, there) == 65
            assert str(archive) in capsys.readouterr().err
            assert not (there / "models").exists()
    assert restore(tmp_path / "none.tar", root) == 66
    (tmp_path / "text.tar").write_text("hello")
    assert restore(tmp_path / "text.tar", root) == 65
    assert "damaged, or no archive of kronos backup" in capsys.readouterr().err


@pytest.mark.parametrize("survived", range(4))  # two runs and two pointers
def test_after_a_crash_runs_are_whole_and_a_repetition_finishes(
    tmp_path: Path, filled: Fill, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    root, there, archive = tmp_path / "one", tmp_path / "there", tmp_path / "all.tar"
    run = filled(root, "a", "run-1", "run-2")
    assert backup(root, archive) == 0
    paths, move, left = RunPaths(there, run.model, run=""), durable.move, [survived]

    def cut(source: Path, final: Path) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        move(source, final)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "move", cut)
        with pytest.raises(KeyboardInterrupt):
            restore(archive, there)
    (there / ".aside-restore" / "models").mkdir(parents=True)  # as a kill leaves it
    assert len(runs(paths)) == min(survived, 2)
    for name in runs(paths):
        files = {path.relative_to(paths.runs) for path in (paths.runs / name).rglob("*")}
        assert files == {path.relative_to(run.paths().runs) for path in (run.paths().runs / name).rglob("*")}
    published = current(paths)
    assert (published is None) == (survived < 3) and (published is None or published.run in runs(paths))
    assert restore(archive, there) == 0
    assert tree(there) == tree(root)
