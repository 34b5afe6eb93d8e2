"""An operator on a machine whose clock is ten minutes off, against a real API server whose clock is right."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from control_plane import ControlPlane
from operator_process import Kubelet, eventually, operator

OFF = timedelta(minutes=10)
# `time.time` is the one clock from which the operator decides. Python imports this module when it starts.
SHIFTED = "import time\nright = time.time\ntime.time = lambda: right() + {seconds}\n"


@pytest.mark.parametrize("off", [OFF, -OFF], ids=["ahead", "behind"])
def test_a_wrong_clock_stalls_nothing_and_moves_no_schedule(
    cluster: ControlPlane,
    namespace: str,
    model: Callable[..., dict[str, Any]],
    tmp_path: Path,
    off: timedelta,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SHIFTED.format(seconds=off.total_seconds()))
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    kubelet, log = Kubelet(cluster, namespace), tmp_path / "operator.log"
    right = datetime.now(UTC)
    # Between the right time and the wrong one: it is due today for one of the two clocks only.
    due = (right + off / 2).replace(second=0, microsecond=0)
    manifest = model(
        "m",
        namespace,
        schedule={"cron": f"{due.minute} {due.hour} * * *"},
        retry={"progressDeadlineSeconds": 60, "backoffSeconds": 5},
    )
    with operator(cluster, namespace, log, PYTHONPATH=path):
        cluster.apply([manifest])
        job = kubelet.job_of("tok", 0)
        kubelet.run(job)
        eventually(lambda: kubelet.status("m").get("phase") == "Training", "Training")
        time.sleep(5)  # of ten minutes that a trainer may take until its first line
        status = kubelet.status("m")
        assert status["phase"] == "Training" and not any(status["run"]["restarts"].values()), status
        expected = due if due > right else due + timedelta(days=1)
        assert datetime.fromisoformat(status["schedule"]["nextTime"]) == expected
        kubelet.end(job, 1)
        crashed = eventually(lambda: kubelet.status("m")["run"].get("retryAt"), "a restart that waits")
        assert abs(datetime.fromisoformat(crashed) - datetime.now(UTC)) < timedelta(seconds=40)
        kubelet.train("tok", 1)
        kubelet.train("pred", 2)
        eventually(lambda: kubelet.status("m").get("phase") == "Succeeded", "Succeeded")
    moments = [condition["lastTransitionTime"] for condition in kubelet.status("m")["conditions"]]
    assert all(abs(datetime.fromisoformat(moment) - datetime.now(UTC)) < timedelta(minutes=2) for moment in moments)
    assert "the API server's, which is used" in log.read_text()
