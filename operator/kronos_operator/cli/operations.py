"""`kronos suspend`, `resume`, `retrain` and `cancel`, of a model here or in a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from kronos_operator.cli.failure import Failure
from kronos_operator.cli.options import ModelName
from kronos_operator.cli.preparation import local_settings
from kronos_operator.cli.status import states_of
from kronos_operator.cli.target import Context, Kubeconfig, Namespace, OnCluster, target_of
from kronos_operator.cli.terminal import say

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded


def suspend(
    name: ModelName,
    on_cluster: OnCluster = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Have a training save and stop, until kronos resume.

    On this machine the `kronos run` that trains the model ends with it, as on Ctrl-C.
    """
    target = target_of(on_cluster, kubeconfig, context, namespace)
    if target is None:
        _stop_here(name, namespace)
        return
    from kronos_operator.cli.cluster import operations as in_cluster

    in_cluster.suspend(target, name)


def resume(
    name: ModelName,
    on_cluster: OnCluster = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Go on with a training that was suspended, from its last checkpoint.

    On this machine it runs here and now, as the model was when it was last run; `kronos run` takes a changed file.
    """
    target = target_of(on_cluster, kubeconfig, context, namespace)
    if target is None:
        _train_here(name, namespace, force=False)
        return
    from kronos_operator.cli.cluster import operations as in_cluster

    in_cluster.resume(target, name)


def retrain(
    name: ModelName,
    on_cluster: OnCluster = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Train every stage of a model again, e.g. because its bars have grown.

    On this machine it runs here and now, as the model was when it was last run; `kronos run` takes a changed file.
    """
    target = target_of(on_cluster, kubeconfig, context, namespace)
    if target is None:
        _train_here(name, namespace, force=True)
        return
    from kronos_operator.cli.cluster import operations as in_cluster

    in_cluster.retrain(target, name)


def cancel(
    name: ModelName,
    on_cluster: OnCluster = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """End the run in progress; its checkpoints stay.

    In a cluster the run counts as cancelled and is not taken up again. On this machine this is kronos suspend.
    """
    target = target_of(on_cluster, kubeconfig, context, namespace)
    if target is None:
        _stop_here(name, namespace)
        return
    from kronos_operator.cli.cluster import operations as in_cluster

    in_cluster.cancel(target, name)


def _stop_here(name: str, namespace: str | None) -> None:
    from kronos_operator.local import stop
    from kronos_trainer.config import ExitCode

    (state,) = states_of(name, namespace)
    asked = stop(state)
    if asked is None:
        raise Failure(f"{name} is not being trained on this machine ({state.state})", ExitCode.INPUT_MISSING)
    say(f"{name}: process {asked} is asked to save what there is and stop; `kronos resume {name}` goes on")


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
        raise Failure(f"{output} holds no copy of {name} as it was run: kronos run -f FILE", ExitCode.INPUT_MISSING)
    return loaded
