"""A schedule on a real clock and API server: each scheduled time starts one run, whatever becomes of the operator."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from control_plane import ControlPlane
from operator_process import Kubelet, eventually, operator

Make = Callable[..., dict[str, Any]]


def test_a_scheduled_time_retrains_once_though_the_operator_dies_in_that_run(
    cluster: ControlPlane, namespace: str, model: Make, tmp_path: Path
) -> None:
    kubelet, log = Kubelet(cluster, namespace), tmp_path / "operator.log"

    def succeeded(runs: int) -> dict[str, Any] | None:
        status = kubelet.status("m")
        return status if status.get("phase") == "Succeeded" and len(status["history"]) == runs else None

    # The next full minute that leaves time for the first run, and no other one of this day.
    due = (datetime.now(UTC) + timedelta(seconds=90)).replace(second=0, microsecond=0)
    with operator(cluster, namespace, log):
        cluster.apply([model("m", namespace, schedule={"cron": f"{due.minute} {due.hour} * * *"})])
        kubelet.train("tok", 0)
        kubelet.train("pred", 1)
        waiting = eventually(lambda: succeeded(1), "the first run")
        assert datetime.fromisoformat(waiting["schedule"]["nextTime"]) == due
        time.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()))
        kubelet.run(kubelet.job_of("tok", 2))
    with operator(cluster, namespace, log):
        kubelet.train("tok", 2)
        kubelet.train("pred", 3)
        status = eventually(lambda: succeeded(2), "the scheduled run")
    with operator(cluster, namespace, log):
        kubelet.change("m", spec={"historyLimit": 5})  # so that it looks at the model and says so
        eventually(lambda: kubelet.status("m")["observedGeneration"] == 2, "a look at the model")
        assert len(kubelet.jobs()) == 4
    assert datetime.fromisoformat(status["schedule"]["lastTime"]) == due
    assert datetime.fromisoformat(status["schedule"]["nextTime"]) == due + timedelta(days=1)
    assert status["history"][0]["trigger"] == f"schedule {due.isoformat()}"
    assert status["history"][0]["run"] != status["history"][1]["run"]
