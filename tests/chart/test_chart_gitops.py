"""The health check for Argo CD in manifests/gitops, run by a Lua interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from lupa import lua51 as lupa  # Argo CD runs Lua 5.1
from rendering import REPOSITORY

CONFIG = yaml.safe_load((REPOSITORY / "manifests/gitops/argocd/argocd-cm.yaml").read_text())
HEALTH = "resource.customizations.health.kronos.io_KronosModel"


def health(model: dict[str, Any]) -> tuple[str, str]:
    lua = lupa.LuaRuntime()
    script = CONFIG["data"][HEALTH]
    result = lua.eval(f"function(obj) {script} end")(lua.table_from(model, recursive=True))
    return result["status"], result["message"]


def model(observed: int, ready: str | None = None) -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, "reason": "TrainingTokenizer", "message": "run a, attempt 1"}
    conditions = [] if ready is None else [{"type": "Progressing", "status": "True", "reason": "x"}, condition]
    return {"metadata": {"generation": 2}, "status": {"observedGeneration": observed, "conditions": conditions}}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"metadata": {"generation": 1}}, "Progressing"),
        (model(-1), "Progressing"),
        (model(1, "True"), "Progressing"),
        (model(2), "Progressing"),
        (model(2, "True"), "Healthy"),
        (model(2, "False"), "Degraded"),
    ],
)
def test_argo_cd_sees_a_model_healthy_unless_it_needs_a_human(seen: dict[str, Any], expected: str) -> None:
    assert health(seen)[0] == expected


def test_argo_cd_shows_the_reason() -> None:
    assert health(model(2, "True"))[1] == "TrainingTokenizer: run a, attempt 1"
