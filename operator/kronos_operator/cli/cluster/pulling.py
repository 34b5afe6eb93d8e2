"""`kronos pull`: a published model from its claim to this machine, laid out as a local run leaves it."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from kronos_operator.cli.cluster.command_pod import CommandPod, running
from kronos_operator.cli.cluster.published import Published, published
from kronos_operator.cli.cluster.pushing import SMALL
from kronos_operator.cli.cluster.session import connected
from kronos_operator.cli.cluster.transfer import Pod, contents
from kronos_operator.cli.failure import Failure
from kronos_operator.cli.target import Target
from kronos_operator.cli.terminal import near, print_line
from kronos_operator.local import weights_digest
from kronos_trainer.config import BacktestPaths, ExitCode, RunPaths, StageName, StagePaths, StageResult, replace_file

if TYPE_CHECKING:
    from kronos_operator.kube import Cluster

LONGEST_SECONDS = 3600


def pull(target: Target, name: str, *, to: Path, image: str | None) -> None:
    """Copy the weights of all stages, their results, the evaluation, the report and the backtest.

    Raises Failure; what was there stays then.
    """
    with connected(target) as session:
        wanted = published(session, name)
        local = RunPaths(to, wanted.model.ref, wanted.run)
        if _complete(local, wanted):
            print_line(f"{near(str(local.run_dir))}: run {wanted.run} is already here, with the digests from status")
        else:
            pod = wanted.pod(session, command="pull", image=image, size=SMALL, seconds=LONGEST_SECONDS)
            with _spool(to) as archive:
                session.run(_download(session.cluster, session.namespace, pod, wanted, archive))
                _unpack(archive, wanted, local)
            print_line(f"{near(str(local.run_dir))}: run {wanted.run}, its weights verified by their SHA-256")
    if local.report.exists():
        print_line(f"{'report':<11}{near(str(local.report))}")
    if local.backtest.page.exists():
        print_line(f"{'backtest':<11}{near(str(local.backtest.page))}")
    print_line(f"{'forecast':<11}kronos forecast --root {to} --model {name} --input FILE --output FILE")


async def _download(cluster: Cluster, namespace: str, pod: CommandPod, wanted: Published, archive: IO[bytes]) -> None:
    there = RunPaths(Path(), wanted.model.ref, wanted.run)
    names = [there.current]
    for stage in StageName.with_weights():
        names += [there.stage(stage).result, there.stage(stage).best]
    async with running(cluster, namespace, pod) as name:
        await Pod(cluster, namespace, name).download(
            wanted.root,
            [path.as_posix() for path in names],
            archive,
            if_there=[path.as_posix() for path in (*documents(there), *there.backtest.files)],
        )
    archive.seek(0)


def _unpack(archive: IO[bytes], wanted: Published, local: RunPaths) -> None:
    """Puts a run in place complete and verified, and only then makes it the current one."""
    there = RunPaths(Path(), wanted.model.ref, wanted.run)
    local.runs.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".pull-", dir=local.runs))
    run, backtest = aside / "run", BacktestPaths(aside / "backtest")
    try:
        current = b""
        with tarfile.open(fileobj=archive, mode="r:") as files:
            for name, stream in contents(files, lambda name: _expected(Path(name), there)):
                path = Path(name)
                if path == there.current:
                    current = stream.read()
                elif path in there.backtest.files:
                    _write(backtest.directory / path.name, stream)
                else:
                    _write(run / path.relative_to(there.run_dir), stream)
        if json.loads(current)["run"] != wanted.run:
            raise Failure(
                f"{wanted.model.metadata.name} has just published a run other than {wanted.run}: try again",
                ExitCode.STOPPED,
            )
        for file in (*(run / file.relative_to(there.run_dir) for file in documents(there)), backtest.summary):
            _read(file, wanted)
        for stage in StageName.with_weights():
            _verify(stage, run / stage, wanted)
        _replace(run, local, wanted)
        _replace_backtest(backtest, local.backtest)
        replace_file(local.current, lambda aside: aside.write_bytes(current))
    except (tarfile.TarError, ValueError, KeyError) as error:
        raise Failure(f"the files from the claim cannot be read: {error}", ExitCode.DATA) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _expected(path: Path, there: RunPaths) -> bool:
    if ".." in path.parts or path.is_absolute():
        return False
    stages = [there.stage(stage) for stage in StageName.with_weights()]
    files = {there.current, *documents(there), *there.backtest.files, *(stage.result for stage in stages)}
    return path in files or path.parent in {stage.best for stage in stages}


def documents(paths: RunPaths) -> list[Path]:
    """What a run has beside its weights; one that was not evaluated, or by an older release, lacks some of it."""
    scores = [paths.stage(stage) for stage in StageName if not stage.has_weights]
    return [
        paths.report,
        paths.facts,
        paths.calibration,
        *(file for stage in scores for file in (stage.evaluation, stage.result)),
    ]


def _read(file: Path, wanted: Published) -> None:
    """Refuses a document that cannot be read, or that is of another run. Raises ValueError and Failure."""
    if file.suffix != ".json" or not file.exists():
        return
    document = json.loads(file.read_text())
    if not isinstance(document, dict):
        raise ValueError(f"{file.name} is no JSON object")
    run = document.get("run")
    if run not in (None, wanted.run):
        raise Failure(f"{file.name} on the claim is of run {run}, and {wanted.run} is published", ExitCode.DATA)


def _verify(stage: StageName, directory: Path, wanted: Published) -> None:
    """Compares the weights with the digest in status, or else in their own result."""
    files = StagePaths(directory)
    result = StageResult.load(files.result.read_text())
    expected = wanted.digests[stage] or result.digest
    found = weights_digest(files.best)
    if found != expected:
        raise Failure(
            f"the {stage} on the claim is not what was published: its weights have SHA-256 {found[:16]}..., and "
            f"{expected[:16]}... was published; `kronos retrain` trains it again",
            ExitCode.DATA,
        )


def _complete(local: RunPaths, wanted: Published) -> bool:
    """Whether the run is here, the current one, with the digests of status, the verdict on it and its backtest."""
    try:
        current = json.loads(local.current.read_text())
        if wanted.evaluated and not all(file.exists() for file in (local.report, local.facts)):
            return False
        if _promises_backtest(local) and not local.backtest.page.exists():
            return False
        return bool(current["run"] == wanted.run) and all(
            wanted.digests[stage] == weights_digest(local.stage(stage).best) for stage in wanted.digests
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _promises_backtest(local: RunPaths) -> bool:
    """Whether the report that is here has a link to one."""
    told = json.loads(local.facts.read_text()) if local.facts.exists() else {}
    return "backtest" in told and bool(told["backtest"])


def _replace(run: Path, local: RunPaths, wanted: Published) -> None:
    if local.run_dir.exists():
        try:
            for stage in StageName.with_weights():
                _verify(stage, local.run_dir / stage, wanted)
        except (Failure, OSError):
            raise Failure(
                f"{near(str(local.run_dir))} has different content under the id of this run: name another --to",
                ExitCode.STORAGE,
            ) from None
        for file in documents(local):  # the same weights are here, perhaps from before they were evaluated
            staged = run / file.relative_to(local.run_dir)
            if staged.exists():
                file.parent.mkdir(exist_ok=True)
                staged.replace(file)
        return
    run.rename(local.run_dir)


def _replace_backtest(staged: BacktestPaths, local: BacktestPaths) -> None:
    """Its page, which says what the other files hold, goes first and comes last."""
    if not staged.directory.is_dir():
        return  # there is none, and one that was made here stays
    local.directory.mkdir(parents=True, exist_ok=True)
    local.page.unlink(missing_ok=True)
    for file, place in zip(staged.files, local.files, strict=True):
        if file.exists():
            file.replace(place)


def _write(path: Path, stream: IO[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as target:
        shutil.copyfileobj(stream, target)
        target.flush()
        os.fsync(target.fileno())


@contextmanager
def _spool(to: Path) -> Iterator[IO[bytes]]:
    """A file for the archive, on the disk where its content goes: nothing is unpacked before all of it has come."""
    try:
        to.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=to) as archive:
            yield archive
    except OSError as error:
        raise Failure(f"cannot write to {to}: {error.strerror or error}", ExitCode.STORAGE) from error
