"""Two processes against one that has both their micro-batches: gradients alike, and ranks that never drift apart."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kronos_trainer.config import RunConfig, StageName
from kronos_trainer.data.bars import prepare_bars

MakeRun = Callable[..., RunConfig]
RunGang = Callable[..., Any]


def test_two_ranks_train_as_one_process(trainable: MakeRun, run_gang: RunGang, tmp_path: Path) -> None:
    """Includes the tokenizer's codebook entropy, which is no mean over windows and so needs its mean over ranks."""
    run = trainable(tokenizer={"gradient_clip": 1000}, predictor={"gradient_clip": 1000})
    gang = run_gang(run, script="gradient_rank.py")
    assert gang.code == 0, gang.stderr
    config = tmp_path / f"{run.run}-{run.stage}.json"
    subprocess.run([sys.executable, str(Path(__file__).with_name("gradient_rank.py")), str(config)], check=True)
    for stage in StageName.with_weights():
        alone, first, second = (torch.load(tmp_path / f"{stage}-{who}.pt") for who in ("0of1", "0of2", "1of2"))
        for name, gradient in alone["gradients"].items():
            distance = (first["gradients"][name] - gradient).norm()
            assert distance <= 1e-5 * gradient.norm(), f"{stage} {name}: {distance / gradient.norm():.1e}"
        for kind in ("gradients", "weights"):
            assert all(torch.equal(first[kind][name], second[kind][name]) for name in first[kind])
        moved = max(float((alone["weights"][n] - first["weights"][n]).abs().max()) for n in alone["weights"])
        assert moved < 1e-3, "after four steps one process and two are still close"


def test_the_bars_of_a_node_are_read_once_for_all_of_its_ranks(
    trainable: MakeRun, run_gang: RunGang, tmp_path: Path
) -> None:
    """By the first rank: to tell whether the cache holds these bytes, and before that to prepare them."""
    run = trainable()
    digest = prepare_bars(Path(run.bars), run.timeframe, run.data, tmp_path / "cache").digest
    gang = run_gang(run, script="reading_rank.py")
    assert gang.code == 0, gang.stderr
    assert [(tmp_path / f"opened-{rank}").read_text() for rank in (0, 1)] == [f"1 {digest} 460", f"0 {digest} 460"]
