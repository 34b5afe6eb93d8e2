"""Results behind a URI: training works on a copy, and what the store holds is what counts.

One process of each node pulls before the stage starts; rank 0 pushes after each checkpoint. A local path needs none
of this.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from kronos_trainer.config import ASIDE, Current, Rival, RunConfig, RunPaths, StageName
from kronos_trainer.errors import InputMissing, StorageError
from kronos_trainer.storage import durable
from kronos_trainer.storage.lock import occupied, refuse_if_late
from kronos_trainer.storage.stores import Beat, Changed, Object, Store
from kronos_trainer.storage.warm_start import is_warm

# Files that say that others are complete: pushed last, in this order, so that nothing half-written is ever read.
_POINTERS = (
    *("checkpoint.json", "calibration.json", "macro.json", "evaluation.json", "readings.json", "trials.json"),
    *("result.json", "report.json", "report.html", "candidate.json", "current.json"),
)
_PULLS = 3  # times that a directory is listed anew when it changes while it is read


class Mirror:
    """The model's directory behind `run.output`, and its working copy, `paths`.

    Every small object is written on the condition that it is still what this attempt last saw, so an attempt that was
    overtaken without noticing cannot name its own checkpoint over a later attempt's.
    """

    def __init__(self, run: RunConfig, cache: Path, beat: Beat = lambda: None) -> None:
        self._run = run
        self._beat = beat
        self._store = Store(run.output)
        # Another URI has another copy: what was trained for one place is not taken for the other's.
        place = hashlib.sha256(run.output.encode()).hexdigest()[:16]
        self.paths: RunPaths = run.paths(cache / place)
        self._there: dict[str, Object] = {}  # objects as this attempt last saw or wrote them, by name
        self._here: dict[str, tuple[int, int, int]] = {}  # files that are equal to them
        self._held = ExitStack()

    def occupy(self) -> None:
        """Keeps other processes of this machine out of the working copy, until this one ends. Raises StorageError."""
        durable.make_directory(self.paths.model_dir)
        self._held.enter_context(occupied(self.paths.model_dir / "working-copy.flock"))

    def pull(self) -> None:
        """Makes the working copy equal to the store: this run, and what of others it reuses or starts from.

        Raises InputMissing if the store may not be read, StorageError.
        """
        for _ in range(_PULLS):
            try:
                self._pull()
                return
            except Changed as error:
                changed = error
        raise changed

    def claim(self) -> None:
        """Records this attempt as the one that writes.

        Called with the local lock held; an object store has no locks, so this fence is all there is between machines.
        Of two that claim at once, one fails. Raises StorageError if a higher attempt has been there or is coming,
        InputMissing if the store may not be written.
        """
        holder, last = self._holder()
        refuse_if_late(self._run, holder, self._run.output)
        try:
            self._store.upload(self.paths.lock, self._name(self.paths.lock), last, self._beat)
        except Changed as error:
            raise StorageError(f"another attempt is taking over {self._run.output}") from error

    def push(self) -> None:
        """Makes the store's run equal to the working copy: content first, what names it next, removals last.

        Raises StorageError, also if another attempt has claimed the model meanwhile.
        """
        try:
            self._push()
        except Changed as error:
            raise StorageError(f"{self._overtaken()}: an object has changed since its last write") from error
        except InputMissing as error:  # it was there and could be written when the stage began
            raise StorageError(
                f"cannot upload results: {error}; the next attempt resumes from what is stored"
            ) from error

    def leave(self, reports: Sequence[Path]) -> None:
        """Uploads reports, which no attempt reads. Raises StorageError if a higher attempt has been there."""
        refuse_if_late(self._run, self._holder()[0], self._run.output)
        for path in reports:
            name, content = self._name(path), path.read_bytes()
            found = self._store.read(name)
            if found is None or found[0] != content:
                self._store.upload(path, name, None if found is None else found[1], self._beat)

    def _push(self) -> None:
        if self._holder()[0] != json.loads(self.paths.lock.read_text()):
            raise StorageError(self._overtaken())
        files = [path for path in self.paths.run_dir.rglob("*") if path.is_file() and ASIDE not in str(path)]
        files += [path for path in self._of_model() if path.exists()]
        for path in sorted(files, key=_turn):
            name, state = self._name(path), _state(path)
            if self._here.get(name) != state:
                self._there[name] = self._store.upload(path, name, self._there.get(name), self._beat)
                self._here[name] = state
        root = self.paths.root  # of the working copy: of runs on this machine
        reports = [*root.glob("logs/training_report_*.txt"), *root.glob("backtest_results/*/*/*")]
        fresh = [path for path in sorted(reports) if self._here.get(self._name(path)) != _state(path)]
        self.leave(fresh)
        self._here |= {self._name(path): _state(path) for path in fresh}
        # Only what this attempt knows of: an object that it has never seen is somebody else's.
        below = self._name(self.paths.run_dir) + "/"
        for name in set(self._there) - {self._name(path) for path in files}:
            if name.startswith(below):
                self._store.remove(name)
                del self._there[name]
                self._here.pop(name, None)

    def _pull(self) -> None:
        run, paths = self._run, self.paths
        directories, files = [paths.run_dir], [*self._of_model(), paths.backtest.summary]  # of which the report speaks
        for stage in StageName:
            reuse = run.reuse_of(stage)
            if reuse is not None:
                reused = RunPaths(paths.root, run.model, reuse.run).stage(stage)
                directories.append(reused.best)
                files.append(reused.result)
        for published in self._published():
            directories += [published.stage(stage).best for stage in StageName.with_weights()]
            files += [published.calibration, *(published.stage(stage).result for stage in StageName)]
        there = {item.name: item for place in directories for item in self._store.list(self._name(place))}
        wanted = [item for item in there.values() if self._there.get(item.name) != item or not self._is_here(item.name)]
        for directory in directories:
            for path in list(directory.rglob("*")) if directory.is_dir() else []:
                if path.is_file() and self._name(path) not in there:
                    path.unlink()
        asides = [(item, self._aside(item.name)) for item in wanted]
        with durable.storing(paths.run_dir):
            self._store.download(asides, self._beat)
        for item, aside in asides:
            aside.replace(paths.root / item.name)
            self._there[item.name], self._here[item.name] = item, _state(paths.root / item.name)
        for name in [name for name in self._there if name not in there]:
            del self._there[name]
        for file in files:
            self._pull_file(file)

    def _of_model(self) -> list[Path]:
        """Files that concern all runs of the model."""
        return [self.paths.readings, self.paths.trials, self.paths.candidate, self.paths.current]

    def _published(self) -> list[RunPaths]:
        """The published run, if this one starts from its weights or is compared with it."""
        run, paths = self._run, self.paths
        start = run.warm_start.run if run.warm_start is not None else ""
        compared = not run.stage.has_weights and Rival.PUBLISHED in run.promotion.against
        names = {start} if is_warm(run) and start else set()
        if compared or (is_warm(run) and not start):
            found = self._store.read(self._name(paths.current))
            with suppress(ValueError):  # said where it is needed, as is its absence
                names.add(Current.read(json.loads(found[0])).run if found is not None else "")
        return [RunPaths(paths.root, run.model, name) for name in sorted(names - {"", run.run})]

    def _pull_file(self, path: Path) -> None:
        name = self._name(path)
        found = self._store.read(name)
        if found is None:
            path.unlink(missing_ok=True)
            return
        content, self._there[name] = found
        durable.write_bytes(path, content)
        self._here[name] = _state(path)

    def _aside(self, name: str) -> Path:
        """Where an object arrives before it takes its place."""
        path = self.paths.root / name
        durable.make_directory(path.parent)
        return path.with_name(ASIDE + path.name)

    def _is_here(self, name: str) -> bool:
        path = self.paths.root / name
        return path.is_file() and self._here.get(name) == _state(path)

    def _holder(self) -> tuple[dict[str, Any], Object | None]:
        found = self._store.read(self._name(self.paths.lock))
        if found is None:
            return {}, None
        try:
            holder = json.loads(found[0])
        except ValueError:
            holder = {}
        return holder if isinstance(holder, dict) else {}, found[1]

    def _overtaken(self) -> str:
        return f"another attempt has taken over {self._run.output}; attempt {self._run.attempt} exits without writing"

    def _name(self, path: Path) -> str:
        return path.relative_to(self.paths.root).as_posix()


def _turn(path: Path) -> int:
    return _POINTERS.index(path.name) + 1 if path.name in _POINTERS else 0


def _state(path: Path) -> tuple[int, int, int]:
    """Equal only if the file was not written since: every write here puts a new file in place, or makes it longer."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size
