"""Too little GPU memory: told as such in whatever words it comes, with a way out; and how much was used."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from test_loop import metrics_of, result_of, run_stage

from kronos_trainer import device_memory
from kronos_trainer.config import ExitCode, RunConfig, StageResult
from kronos_trainer.device_memory import is_lack_of_memory, peak_gpu_bytes
from kronos_trainer.errors import ConfigError, OutOfMemory, TrainerError
from kronos_trainer.forecast.drawing import Drawer
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.tokenizer import KronosTokenizer
from kronos_trainer.model.weights import scratch_net
from kronos_trainer.stopping import StopSignal
from kronos_trainer.training import loop, rank, train
from kronos_trainer.training.distributed import Ranks
from kronos_trainer.training.tokenizer import TokenizerTask

MakeRun = Callable[..., RunConfig]

NCCL = "NCCL error in a file, unhandled cuda error\nLast error:\n"
LACKS = [
    torch.OutOfMemoryError(),
    RuntimeError("CUDA out of memory. 20 MiB"),
    RuntimeError("CUDA error: out of memory\nAnd more"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED in `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("code cudaErrorMemoryAllocation"),
    dist.DistBackendError(f"{NCCL}Cuda failure 2 'out of memory'"),
    dist.DistBackendError(f"{NCCL}Failed to CUDA calloc async 4194304 bytes"),
]
OTHERS = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    dist.DistBackendError(f"{NCCL}Connection closed by remote peer"),
    MemoryError("out of memory"),
]


@pytest.mark.parametrize("error", LACKS, ids=repr)
def test_a_lack_of_gpu_memory_is_seen_in_the_words_of_each_library(
    error: Exception, trainable: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_lack_of_memory(error)
    monkeypatch.setattr(TokenizerTask, "loss", _raising(error))
    with pytest.raises(OutOfMemory, match="with 4 windows per process and forward pass; a restart"):
        run_stage(trainable())


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_another_failure_is_not_taken_for_one(
    error: Exception, trainable: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenizerTask, "loss", _raising(error))
    with pytest.raises(type(error)) as raised:
        run_stage(trainable())
    assert raised.value is error and not is_lack_of_memory(error)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (LACKS[2], ExitCode.OUT_OF_MEMORY, "out of GPU memory: .*nvidia-smi"),
        (LACKS[6], ExitCode.OUT_OF_MEMORY, "out of GPU memory: .*nvidia-smi"),
        (OTHERS[1], ExitCode.CRASHED, "lost the connection to another rank"),
    ],
    ids=repr,
)
def test_a_full_gpu_is_told_as_such_before_the_ranks_have_met(
    error: Exception,
    code: ExitCode,
    message: str,
    trainable: MakeRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "run.json"
    config.write_text(trainable().dump())
    monkeypatch.setattr(Ranks, "join", _raising(error))
    assert rank.main(["--run", str(config)], StopSignal()) == code
    said = capfd.readouterr()
    assert re.search(message, said.out + said.err, re.DOTALL)


def test_a_lack_of_memory_while_tokenising_is_not_blamed_on_the_micro_batch(
    trainable: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"precision": "fp32", "windows_per_epoch": 16}
    run_stage(trainable(tokenizer={"epochs": 1}, training=few))
    monkeypatch.setattr(KronosTokenizer, "encode", _raising(LACKS[0]))
    run = trainable(stage="predictor", training=few, predictor={"epochs": 40})
    with pytest.raises(ConfigError, match=r"2048 windows of 16 bars .* whatever the micro-batch"):
        run_stage(run)


def test_a_lack_of_memory_while_judging_asks_for_fewer_samples(
    trainable: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kronos_trainer.training.evaluation.evaluate", _raising(LACKS[3]))
    hashes = {stage: stage[0] * 12 for stage in ("tokenizer", "predictor", "evaluation")}
    with pytest.raises(OutOfMemory, match=r"evaluation\.samples"):
        run_stage(trainable(stage="evaluation", stage_hashes=hashes))


def test_a_lack_of_memory_for_the_weights_of_a_forecast_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    nets = scratch_net(TOKENIZER, "tiny", 0), scratch_net(PREDICTOR, "tiny", 0)
    monkeypatch.setattr(torch.nn.Module, "to", _raising(LACKS[2]))
    with pytest.raises(OutOfMemory, match="--device cpu"):
        Drawer(*nets, device="cuda")


def test_the_peak_of_gpu_memory_is_in_the_result_the_metrics_and_the_status(
    trainable: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"precision": "fp32", "windows_per_epoch": 16}
    plain = trainable(tokenizer={"epochs": 1}, training=few, run="on-a-cpu")
    run_stage(plain)
    assert result_of(plain)["peakGpuBytes"] is None and "peak" not in str(metrics_of(plain))

    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3_000 + device.index)
    assert peak_gpu_bytes(torch.device("cuda", 1)) == 3_001
    assert peak_gpu_bytes(torch.device("cpu")) is None
    for module in (loop, train):
        monkeypatch.setattr(module, "peak_gpu_bytes", lambda _: device_memory.peak_gpu_bytes(torch.device("cuda", 7)))
    run = trainable(tokenizer={"epochs": 1}, training=few)
    run_stage(run)
    assert result_of(run)["peakGpuBytes"] == 3_007
    assert {line["peakGpuBytes"] for line in metrics_of(run) if "validationLoss" in line} == {3_007}
    assert StageResult.read(StageResult.read(result_of(run)).short).metrics["peakGpuBytes"] == 3_007


def _raising(error: Exception) -> Callable[..., TrainerError]:
    def fail(*arguments: object, **named: object) -> TrainerError:
        raise error

    return fail
