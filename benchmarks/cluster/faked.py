"""The tests' control plane with a scheduler, and with kwok in the place of every kubelet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from control_plane import ControlPlane, free_port

from kronos_operator.backends.job import JOB

_HERE = Path(__file__).parent
_NODES = 20
_CLIENT_LIMITS = ("--kube-api-qps=5000", "--kube-api-burst=10000")
# The operator asks for the last 50 lines.
_LOG_LINES = 50


class FakedCluster(ControlPlane):
    """A control plane whose pods are scheduled, run for 20 s and succeed; its own clients are held back by nothing."""

    def __init__(self, directory: Path, *, also: Sequence[str] = ()) -> None:
        self.audit_log = directory / "audit.log"
        self.operator_log = directory / "operator.log"
        audit = (
            f"--audit-policy-file={_HERE / 'audit.yaml'}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-maxsize=100000",  # MiB; a second file would not be read
        )
        flags = {
            # The controller that would take the taint of new nodes away does not run here.
            "kube-apiserver": ("--disable-admission-plugins=TaintNodesByCondition", *audit),
            "kube-controller-manager": (*_CLIENT_LIMITS, "--concurrent-job-syncs=50", "--concurrent-gc-syncs=50"),
        }
        super().__init__(directory, also=("kube-scheduler", "kwok", *also), flags=flags)

    def start(self) -> None:
        """Starts everything, nodes too."""
        super().start()
        self.run(
            "kube-scheduler",
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            f"--secure-port={free_port()}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.directory / 'scheduler'}",
            *_CLIENT_LIMITS,
        )
        log = self.directory / "trainer.log"
        log.write_text(_trainer_log())
        logs = {
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "ClusterLogs",
            "metadata": {"name": "trainer"},
            "spec": {"logs": [{"containers": [JOB.container], "logsFile": str(log)}]},
        }
        (self.directory / "logs.yaml").write_text(json.dumps(logs))
        port = free_port()
        self.run(
            "kwok",
            f"--kubeconfig={self.kubeconfig}",
            f"--config={_HERE / 'kwok.yaml'},{self.directory / 'logs.yaml'}",
            "--manage-all-nodes",
            "--v=WARN",
            "--node-ip=127.0.0.1",
            f"--node-port={port}",
            f"--server-address=127.0.0.1:{port}",
            # The API server asks a kubelet for a log by HTTPS, whoever signed its certificate.
            f"--tls-cert-file={self.certificate}",
            f"--tls-private-key-file={self.certificate.with_suffix('.key')}",
        )
        self.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{n}"}} for n in range(_NODES)])
        self.wait("kwok", self._nodes_are_ready)

    def _nodes_are_ready(self) -> bool:
        nodes = self.request("GET", "/api/v1/nodes")["items"]
        return all(node.get("status", {}).get("phase") == "Running" for node in nodes)


def _trainer_log() -> str:
    """A trainer's last lines: they are of one moment, so that reading them again tells nothing new."""
    common = {"kronos": 1, "time": datetime.now(UTC).isoformat(), "run": "benchmark", "attempt": 0}
    steps = 1000
    progress = common | {
        "event": "progress",
        "stage": "predictor",
        "phase": "training",
        "epoch": 3,
        "epochs": 3,
        "steps": steps,
        "loss": 2.34567,
        "validationLoss": 2.45678,
        "learningRate": 0.0001,
        "gradientNorm": 0.98765,
        "samplesPerSecond": 123.4,
        "etaSeconds": 12.3,
    }
    lines = [progress | {"step": step, "percent": 100 * step / steps} for step in range(steps - _LOG_LINES + 1, steps)]
    result = {
        "stage": "predictor",
        "digest": "0" * 64,
        "initialValidationLoss": 3.1,
        "bestValidationLoss": 2.4,
        "finalTrainLoss": 2.3,
        "samplesPerSecond": 123.4,
        "seconds": 20.0,
    }
    lines.append(common | {"event": "result", "result": result})
    # As a container runtime writes them.
    return "".join(f"{common['time']} stdout F {json.dumps(line)}\n" for line in lines)
