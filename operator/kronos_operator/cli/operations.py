"""`kronos suspend`, `resume`, `retrain` and `cancel`, of a model here or in a cluster; how to make such commands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import typer

from kronos_operator.cli.failure import Failure
from kronos_operator.cli.options import ModelName
from kronos_operator.cli.preparation import local_settings
from kronos_operator.cli.status import states_of
from kronos_operator.cli.target import Context, Kubeconfig, Namespace, OnCluster, target_of
from kronos_operator.cli.terminal import print_line

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded


def operation(verb: str, here: Callable[[str, str | None], None], help: str) -> Callable[..., None]:
    """The command of this name: `here` does it on this machine."""

    def command(
        name: ModelName,
        on_cluster: OnCluster = False,
        kubeconfig: Kubeconfig = None,
        context: Context = None,
        namespace: Namespace = None,
    ) -> None:
        target = target_of(on_cluster, kubeconfig, context, namespace)
        if target is None:
            here(name, namespace)
            return
        from kronos_operator.cli.cluster.operations import OPERATIONS

        OPERATIONS[verb](target, name)

    command.__doc__ = help
    return command


def _stop_here(name: str, namespace: str | None) -> None:
    from kronos_operator.local import stop
    from kronos_trainer.config import ExitCode

    (state,) = states_of(name, namespace)
    asked = stop(state)
    if asked is None:
        raise Failure(f"{name} is not being trained on this machine ({state.state})", ExitCode.INPUT_MISSING)
    print_line(f"{name}: process {asked} saves its progress and stops; `kronos resume {name}` continues")


def _train_here(name: str, namespace: str | None, *, force: bool) -> None:
    from kronos_operator.cli.run import train
    from kronos_trainer.config import ExitCode

    (state,) = states_of(name, namespace)
    if state.state == "running":
        raise Failure(f"{name} is being trained by another command: kronos logs -f {name}", ExitCode.STORAGE)
    raise typer.Exit(train([_stored(name, namespace)], local_settings(force=force)))


def _stored(name: str, namespace: str | None) -> Loaded:
    from kronos_operator.local import stored_model
    from kronos_trainer.config import ExitCode, ModelRef

    output = local_settings().output_root
    loaded = stored_model(output, ModelRef(namespace=namespace or "default", name=name))
    if loaded is None:
        raise Failure(f"{output} has no stored copy of {name}: kronos run -f FILE", ExitCode.INPUT_MISSING)
    return loaded


suspend = operation(
    "suspend",
    _stop_here,
    """Save and stop a training, until kronos resume.

    On this machine the `kronos run` that trains the model ends with it, as on Ctrl-C.
    """,
)
resume = operation(
    "resume",
    partial(_train_here, force=False),
    """Continue a suspended training from its last checkpoint.

    On this machine it runs here and now, with the model as it was last run; for a changed file use `kronos run`.
    """,
)
retrain = operation(
    "retrain",
    partial(_train_here, force=True),
    """Train every stage of a model again, e.g. because its bars have grown.

    On this machine it runs here and now, with the model as it was last run; for a changed file use `kronos run`.
    """,
)
cancel = operation(
    "cancel",
    _stop_here,
    """End the run in progress; its checkpoints stay.

    In a cluster the run is marked as cancelled and does not resume. On this machine this is kronos suspend.
    """,
)
