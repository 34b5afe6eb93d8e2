"""Which steps are captured as a CUDA graph. That one has the bits of an eager step is tested in test_gpu.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kronos_trainer.config import Training
from kronos_trainer.training.batching import BatchPlan
from kronos_trainer.training.graph import can_capture


@pytest.mark.parametrize(
    ("device", "world", "micro", "training", "captured"),
    [
        ("cuda", 1, 64, {}, True),
        ("cuda", 1, 64, {"compile": True, "precision": "bf16"}, True),
        ("cuda", 1, 32, {}, False),
        ("cuda", 2, 32, {}, False),
        ("cuda", 1, 64, {"gradient_checkpointing": True}, False),
        ("cuda", 1, 64, {"upstream_exact": True}, False),
        ("cpu", 1, 64, {}, False),
    ],
)
def test_what_can_be_one_graph(device: str, world: int, micro: int, training: dict[str, Any], captured: bool) -> None:
    plan = BatchPlan(batch=64, micro=micro, world=world)
    assert can_capture(Training.model_validate(training), plan, torch.device(device)) == captured
