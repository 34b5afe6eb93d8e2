"""Two processes against one that has both their micro-batches: gradients alike, and ranks that never drift apart."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kronos_trainer.config import RunConfig, StageName
from kronos_trainer.data.bars import prepare_bars

MakeRun = Callable[..., RunConfig]
RunGang = Callable[..., Any]

SCRIPT = str(Path(__file__).with_name("gradient_rank.py"))


def test_two_ranks_train_as_one_process(trainable: MakeRun, run_gang: RunGang, tmp_path: Path) -> None:
    """Includes the tokenizer's codebook entropy, which is no mean over windows and so needs its mean over ranks."""
    run = trainable(tokenizer={"gradient_clip": 1000}, predictor={"gradient_clip": 1000})
    gang = run_gang(run, script="gradient_rank.py")
    assert gang.code == 0, gang.stderr
    config = tmp_path / f"{run.run}-{run.stage}.json"
    subprocess.run([sys.executable, SCRIPT, str(config)], check=True)
    assert_alike(tmp_path)


@pytest.mark.gpu
def test_two_ranks_on_one_gpu_train_as_one_process(trainable: MakeRun, tmp_path: Path) -> None:
    """Over NCCL, which refuses to share a GPU on one machine: each rank says that it is another one."""
    run = trainable(tokenizer={"gradient_clip": 1000}, predictor={"gradient_clip": 1000})
    config = tmp_path / "run.json"
    config.write_text(run.dump())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    gang = {
        "TMPDIR": str(tmp_path),
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
    }
    loopback = {"NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo", "NCCL_IB_DISABLE": "1", "NCCL_DEBUG": "WARN"}
    ranks = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(config)],
            env=os.environ | gang | loopback | {"MASTER_PORT": port, "RANK": str(rank), "NCCL_HOSTID": f"node{rank}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=180)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    if any("Duplicate GPU detected" in text for text in said):
        pytest.skip("this NCCL refuses two ranks on one GPU")
    assert [rank.returncode for rank in ranks] == [0, 0], said
    subprocess.run([sys.executable, SCRIPT, str(config)], check=True)
    assert_alike(tmp_path)


def assert_alike(directory: Path) -> None:
    """What two ranks and one process have left there is the same but for the order of summation."""
    for stage in StageName.with_weights():
        alone, first, second = (
            torch.load(directory / f"{stage}-{who}.pt", map_location="cpu") for who in ("0of1", "0of2", "1of2")
        )
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
