"""`kronos forecast`: hands its options to `python -m kronos_trainer.forecast`, which needs torch."""

from __future__ import annotations

from typing import Any

import typer

from kronos_operator.cli.children import flags, run_tool
from kronos_operator.cli.completion import model_names
from kronos_operator.cli.declared import takes
from kronos_operator.cli.options import Image
from kronos_operator.cli.target import Context, Kubeconfig, OnCluster, target_of
from kronos_trainer.commands import FORECAST_OPTIONS


@takes(FORECAST_OPTIONS, {"model": model_names})
def forecast(
    *,
    on_cluster: OnCluster = False,
    kubeconfig: Kubeconfig = None,
    kube_context: Context = None,
    image: Image = None,
    **options: Any,
) -> None:
    """Predict the bars after a history, with a model trained here, with any weights, or with a model of a cluster.

    In a cluster a short-lived pod computes it, on CPU; the files stay on this machine.
    """
    target = target_of(on_cluster, kubeconfig, kube_context, options["namespace"])
    if target is None:
        raise typer.Exit(run_tool("kronos_trainer.forecast", flags(options), needs=("torch", "pandas")))
    from kronos_operator.cli.cluster import forecasting

    forecasting.forecast(target, options, image=image)
