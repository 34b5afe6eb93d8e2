"""The operator's release as an administrator has it: installed, upgraded and removed by helm."""

from __future__ import annotations

from pathlib import Path

from live import Live

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "charts/kronos-operator"
OLDER = REPOSITORY / "tests/chart/old/kronos-operator"
SYSTEM = "kronos-system"
NAME = "kronos-operator"
VALUES = {
    "image.repository": "localhost/kronos-operator",
    "image.tag": "dev",
    "trainer.image.repository": "localhost/kronos-trainer",
    "trainer.image.tag": "dev",
    "progressSeconds": "1",
}
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def install(live: Live, chart: Path = CHART) -> None:
    """Installs the chart, or upgrades to it, and waits until the operator is ready."""
    live.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM, "labels": RESTRICTED}})
    chosen = [f"--set={name}={value}" for name, value in VALUES.items()]
    live.helm("upgrade", "--install", NAME, str(chart), "--namespace", SYSTEM, *chosen)
    live.kubectl("rollout", "status", f"deployment/{NAME}", "-n", SYSTEM, "--timeout=120s")


def uninstall(live: Live) -> None:
    """Removes it and waits until the operator is gone."""
    live.helm("uninstall", NAME, "--namespace", SYSTEM, "--wait")
    wait_until_gone(live)


def wait_until_gone(live: Live) -> None:
    """Waits until a release that was removed has no pod any more."""
    live.kubectl(
        "wait", "--for=delete", "pod", f"--selector=app.kubernetes.io/instance={NAME}", "-n", SYSTEM, "--timeout=120s"
    )
