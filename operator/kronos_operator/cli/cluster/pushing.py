"""`kronos data push`: files of bars onto a claim."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from kronos_operator import names
from kronos_operator.cli.cluster.command_pod import CommandPod, Mount, Size, require_claim, running, trainer_image
from kronos_operator.cli.cluster.meter import meter
from kronos_operator.cli.cluster.session import connected
from kronos_operator.cli.cluster.transfer import Pod
from kronos_operator.cli.failure import Failure
from kronos_operator.cli.target import Target
from kronos_operator.cli.terminal import print_line, size_text
from kronos_trainer.config import KINDS, Content, ExitCode, Landed, Offer, bars_among, files_below

if TYPE_CHECKING:
    from kronos_operator.kube import Cluster

SMALL = Size(cpu="100m", memory="128Mi", most_cpu="1", most_memory="512Mi")
LONGEST_SECONDS = 6 * 3600  # a later push goes on where it ended


def push(target: Target, source: Path, *, claim: str, path: str, overwrite: bool, image: str | None) -> None:
    """Copy the files of bars in a directory, or one file. Raises Failure before anything is sent where it cannot be."""
    files, left_out = bars_in(source)
    offer = offer_of(files, path, overwrite=overwrite)
    with connected(target) as session:
        require_claim(session, claim)
        wanted = CommandPod(
            command="push",
            image=trainer_image(session, image),
            mount=Mount(claim=claim, place=names.BARS_MOUNT, read_only=False),
            size=SMALL,
            seconds=LONGEST_SECONDS,
        )
        landed = session.run(_push(session.cluster, session.namespace, wanted, offer, files))
    total = sum(content.size for content in offer.files.values())
    place = f"{offer.path} of claim {claim}" if offer.path else f"the root of claim {claim}"
    print_line(
        f"{place}: {len(files)} files, {size_text(total)}; {landed.added} added, {landed.replaced} replaced, "
        f"{landed.unchanged} unchanged"
    )
    if left_out:
        print_line(f"note: {len(left_out)} files are not bar files and were not copied: {_some(left_out)}", stderr=True)
    if landed.others:
        print_line(f"note: {landed.others} other bar files are on the claim; a training reads them too", stderr=True)
    where = f"{{name: {claim}, path: {offer.path}}}" if offer.path else f"{{name: {claim}}}"
    print_line(f"in a KronosModel:  data: {{source: {{claim: {where}}}}}")


def bars_in(source: Path) -> tuple[dict[str, Path], list[str]]:
    """The files of bars by their relative names, and the names of other files. Raises Failure (66) if there is none."""
    if source.is_file():
        found = {Path(source.name): source}
    elif source.is_dir():
        found = {file.relative_to(source): file for file in files_below(source)}
    else:
        raise Failure(f"{source} does not exist", ExitCode.INPUT_MISSING)
    bars = bars_among(found) if source.is_dir() else list(found)
    files = {name.as_posix(): found[Path(name)] for name in bars}
    left_out = [name.as_posix() for name in found if name.as_posix() not in files]
    if not files:
        raise Failure(
            f"{source}: no bar files ({KINDS}) among {len(left_out)} files",
            ExitCode.INPUT_MISSING,
        )
    empty = [name for name, file in files.items() if file.stat().st_size == 0]
    if empty:
        raise Failure(f"{source}: empty files: {_some(empty)}; fill them or remove them", ExitCode.DATA)
    return files, left_out


def offer_of(files: dict[str, Path], path: str, *, overwrite: bool) -> Offer:
    """What is offered to the pod. Raises Failure (64) for a path that leads out of the claim or a name no pod takes."""
    try:
        contents = {name: Content.of(file) for name, file in files.items()}
        return Offer(path=path.strip("/") or None, files=contents, overwrite=overwrite)
    except ValidationError as error:
        first = error.errors()[0]
        field = "--path" if first["loc"][:1] == ("path",) else "name of a file"
        raise Failure(f"{field}: {first['msg'].removeprefix('Value error, ')}", ExitCode.CONFIG) from None


async def _push(cluster: Cluster, namespace: str, wanted: CommandPod, offer: Offer, files: dict[str, Path]) -> Landed:
    async with running(cluster, namespace, wanted) as name:
        with meter("sent") as moved:
            return await Pod(cluster, namespace, name).upload(wanted.mount.place, offer, files, moved)


def _some(texts: list[str]) -> str:
    return ", ".join(texts[:3]) + (", ..." if len(texts) > 3 else "")
