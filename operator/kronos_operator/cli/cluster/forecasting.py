"""`kronos forecast --cluster`: a published model is asked in a pod, where its weights are; bars go there and back."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kronos_operator import names
from kronos_operator.cli.children import flags
from kronos_operator.cli.cluster.command_pod import CommandPod, Size, running
from kronos_operator.cli.cluster.published import published
from kronos_operator.cli.cluster.session import connected
from kronos_operator.cli.cluster.transfer import Pod, contents
from kronos_operator.cli.failure import Failure
from kronos_operator.cli.target import Target
from kronos_operator.cli.terminal import print_line
from kronos_trainer.config import Content, ExitCode, Offer, bar_files_below, clash, is_folder, replace_file

if TYPE_CHECKING:
    from kronos_operator.kube import Cluster

# The largest released model has half a billion weights.
SIZE = Size(cpu="500m", memory="1Gi", most_cpu="2", most_memory="8Gi")
LONGEST_SECONDS = 3600
_PLACE = "forecast"
_FORECAST, _PLOT = "output/forecast", "output/plot"
_OURS = ("input", "output", "future", "plot")  # options that name files of this machine


def forecast(target: Target, options: Mapping[str, Any], *, image: str | None) -> None:
    """Forecast with the options of `kronos forecast`, and write its files here. Raises Failure."""
    inputs = _inputs(options)
    outputs = _outputs(options)
    offer = Offer(path=_PLACE, files={name: Content.of(file) for name, file in inputs.items()})
    with connected(target) as session:
        wanted = published(session, options["model"])
        pod = wanted.pod(session, command="forecast", image=image, size=SIZE, seconds=LONGEST_SECONDS)
        command = _command(options, inputs, outputs, wanted.root, wanted.model.metadata.namespace)
        with tempfile.TemporaryFile() as archive:
            out, err = session.run(
                _forecast(session.cluster, session.namespace, pod, command, offer, inputs, list(outputs), archive)
            )
            archive.seek(0)
            _write(archive, outputs, inputs.values())
    for text, is_error in ((err, True), (out, False)):
        for line in text.splitlines():
            print_line(_at_home(line, outputs), stderr=is_error)


def _inputs(options: Mapping[str, Any]) -> dict[str, Path]:
    """The files that are sent, by their names in the pod. Raises Failure for what cannot be asked of a cluster."""
    if options["model"] is None:
        raise Failure("--cluster forecasts with a model of the cluster: name it with --model", ExitCode.CONFIG)
    for option in ("root", "tokenizer", "predictor"):
        if options[option] is not None:
            raise Failure(f"--{option} names local files and cannot be combined with --cluster", ExitCode.CONFIG)
    if options["device"] == "cuda":
        raise Failure("a forecast in a cluster runs on CPU: omit --device", ExitCode.CONFIG)
    plot: Path | None = options["plot"]
    if plot is not None and not is_folder(plot, options["input"]) and plot.suffix.lower() != ".png":
        raise Failure(f"--plot {plot}: must end with .png", ExitCode.CONFIG)
    inputs = _bars(options["input"])
    future: Path | None = options["future"]
    if future is not None:
        inputs[f"future/{future.name}"] = future
    for file in inputs.values():
        if not file.is_file():
            raise Failure(f"{file}: no such file", ExitCode.INPUT_MISSING)
    for name, file in inputs.items():
        if not name.isprintable():
            raise Failure(f"{file!s}: rename it: its name has characters that cannot be sent", ExitCode.CONFIG)
    places = [(f"--{option}", options[option]) for option in ("output", "plot") if options[option] is not None]
    for option, place in places:
        if place.is_dir() and not options["input"].is_dir():
            raise Failure(f"{option} {place}: is a directory; name a file", ExitCode.CONFIG)
    problem = clash(places, options["input"], inputs.values())
    if problem is not None:
        raise Failure(problem, ExitCode.CONFIG)
    return inputs


def _bars(source: Path) -> dict[str, Path]:
    if not source.is_dir():
        return {f"input/{source.name}": source}
    found = {f"input/bars/{file.relative_to(source).as_posix()}": file for file in bar_files_below(source)}
    if not found:
        raise Failure(f"--input {source}: contains no bar files", ExitCode.DATA)
    return found


def _outputs(options: Mapping[str, Any]) -> dict[str, Path]:
    """Files and directories of this machine, by their names in the pod."""
    outputs = {}
    for option, name in (("output", _FORECAST), ("plot", _PLOT)):
        place: Path | None = options[option]
        if place is not None:
            many = is_folder(place, options["input"])
            outputs[name + ("" if many else "".join(place.suffixes[-2:]).lower())] = place
    return outputs


def _command(
    options: Mapping[str, Any], inputs: Mapping[str, Path], outputs: Mapping[str, Path], root: str, namespace: str
) -> list[str]:
    """The trainer's forecast, with the files where they are in the pod."""
    work = PurePosixPath(names.SCRATCH_MOUNT) / _PLACE
    inside = {name.split("/")[0]: str(work / name) for name in inputs}
    if options["input"].is_dir():
        inside["input"] = str(work / "input/bars")
    inside |= {"root": root, "namespace": namespace}
    for name in outputs:
        inside["plot" if name.startswith(_PLOT) else "output"] = str(work / name)
    rest = {name: value for name, value in options.items() if name not in (*_OURS, *inside)}
    return ["python", "-m", "kronos_trainer.forecast", *flags(inside | rest)]


async def _forecast(
    cluster: Cluster,
    namespace: str,
    wanted: CommandPod,
    command: list[str],
    offer: Offer,
    inputs: Mapping[str, Path],
    outputs: Sequence[str],
    archive: Any,
) -> tuple[str, str]:
    async with running(cluster, namespace, wanted) as name:
        pod = Pod(cluster, namespace, name)
        await pod.upload(names.SCRATCH_MOUNT, offer, inputs, lambda _moved, _total: None)
        printed = await pod.run(command)
        await pod.download(f"{names.SCRATCH_MOUNT}/{_PLACE}", outputs, archive)
    return printed


def _write(archive: Any, outputs: Mapping[str, Path], inputs: Collection[Path]) -> None:
    """Replaces each file in one step."""
    with tarfile.open(fileobj=archive, mode="r:") as files:
        for name, stream in contents(files, lambda name: _final(name, outputs) is not None):
            final = _final(name, outputs)
            assert final is not None
            problem = clash([("--output", final)], final.parent / "absent", inputs)
            if problem is not None:
                raise Failure(problem, ExitCode.CONFIG)
            _replace(final, stream.read())


def _replace(final: Path, content: bytes) -> None:
    try:
        replace_file(final, lambda aside: aside.write_bytes(content))
    except OSError as error:
        raise Failure(f"cannot write {final}: {error.strerror}", ExitCode.STORAGE) from error


def _final(name: str, outputs: Mapping[str, Path]) -> Path | None:
    """Where a file of the pod goes here: a file that was named, or one right in a directory that was."""
    if name in outputs:
        return outputs[name]
    folder, _, file = name.rpartition("/")
    return outputs[folder] / file if folder in outputs and file not in ("", ".", "..") else None


def _at_home(line: str, outputs: Mapping[str, Path]) -> str:
    """A line of the pod's with the names that its files have here."""
    for name, file in outputs.items():
        line = line.replace(f"{names.SCRATCH_MOUNT}/{_PLACE}/{name}", str(file))
    return line
