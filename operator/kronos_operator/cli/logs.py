"""`kronos logs`: the log of a model's trainer, here or in a cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from kronos_operator.cli.display import progress_line
from kronos_operator.cli.failure import Failure
from kronos_operator.cli.options import ModelName
from kronos_operator.cli.preparation import local_settings
from kronos_operator.cli.progress import Board, StageProgress, remark_of
from kronos_operator.cli.target import Context, Kubeconfig, Namespace, OnCluster, target_of
from kronos_operator.cli.terminal import print_line
from kronos_trainer.stages import StageName

POLL_SECONDS = 0.5


def logs(
    name: ModelName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines until Ctrl-C.")] = False,
    stage: Annotated[StageName | None, typer.Option(help="Only this stage.", show_default="the latest")] = None,
    rank: Annotated[
        str, typer.Option(metavar="N|all", help="In a cluster: only the pod of this rank; local ranks share one log.")
    ] = "all",
    on_cluster: OnCluster = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Print the log of a model's latest attempt, progress in readable form; in a cluster, the logs of every pod.

    --follow continues with later stages and attempts; in a cluster it ends with the run.
    """
    from kronos_trainer.config import ExitCode, ModelRef, RunPaths

    one_rank = _rank(rank)
    target = target_of(on_cluster, kubeconfig, context, namespace)
    if target is not None:
        from kronos_operator.cli.cluster import logs as in_cluster

        wanted = in_cluster.Wanted(model=name, stage=stage, rank=one_rank)
        in_cluster.show(target, wanted, follow=follow, readable=readable)
        return
    if one_rank is not None:
        raise Failure("all ranks of a local run share one log: omit --rank", ExitCode.CONFIG)
    directory = RunPaths(local_settings().output_root, ModelRef(namespace=namespace or "default", name=name), "").logs
    log = newest_log(directory, stage)
    if log is None:
        of_stage = f" of the {stage}" if stage else ""
        raise Failure(
            f"no log{of_stage} in {directory}; `kronos list` shows the models of this output directory",
            ExitCode.INPUT_MISSING,
        )
    lines = followed(directory, log, stage) if follow else iter(log.read_text(errors="replace").splitlines())
    for line in lines:
        print_line(readable(name, line))


def _rank(text: str) -> int | None:
    """A rank, None for all of them."""
    if text != "all" and not text.isdigit():
        raise typer.BadParameter(f"{text!r} is neither a number nor all", param_hint="--rank")
    return None if text == "all" else int(text)


def newest_log(directory: Path, stage: str | None) -> Path | None:
    """The log that was written to last."""
    found = directory.glob(f"*-{stage}-*.log" if stage else "*.log")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def followed(directory: Path, log: Path, stage: str | None) -> Iterator[str]:
    """Every line of the log and what is added to it; goes over to the log of the next stage or attempt."""
    while True:
        with log.open(errors="replace") as stream:
            unfinished = ""
            while True:
                unfinished += stream.readline()
                if unfinished.endswith("\n"):
                    yield unfinished.removesuffix("\n")
                    unfinished = ""
                    continue
                newer = newest_log(directory, stage)
                if newer is not None and newer != log:
                    break
                time.sleep(POLL_SECONDS)
        log = newer


def readable(model: str, line: str) -> str:
    """A progress line for the eye; any other line as it is, also one that only begins as if it were the trainer's."""
    from kronos_trainer.config import OtherEvent, parse_line

    events = list(parse_line(line)) if line.startswith("{") else []
    if len(events) != 1 or events[0].malformed or isinstance(events[0], OtherEvent):
        return line
    stage = StageProgress(model, events[0].stage)
    Board([stage]).apply(model, events[0])
    remark = remark_of(events[0])
    return progress_line(stage) if remark is None else f"{model}: {remark}"
