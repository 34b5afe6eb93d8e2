"""The processes that train together; the only module that uses torch.distributed. Everything else uses a Ranks.

With one process nothing is initialised and every operation is the identity.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kronos_trainer.errors import BadEnvironment, TrainerError

Value = TypeVar("Value")

# A rank may wait for another that downloads weights or writes a large checkpoint. A process that died is noticed at
# once, by its closed connection, and one that hangs by whoever watches the progress lines.
TIMEOUT = timedelta(hours=1)


@dataclass(frozen=True)
class Ballot:
    """What all ranks agreed on at a step boundary."""

    stop: bool
    save: bool
    failed: bool


class Ranks:
    """This process and the others."""

    def __init__(
        self, *, rank: int = 0, world: int = 1, local_rank: int = 0, local_world: int = 1, device: torch.device
    ) -> None:
        self.rank = rank
        self.world = world
        self.local_rank = local_rank  # among the processes of this node
        self.local_world = local_world
        self.device = device
        # Objects and votes travel over CPU tensors, whatever the gradients use.
        self._control: dist.ProcessGroup | None = None
        if world > 1:
            self._control = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=TIMEOUT))
        self._votes = torch.zeros(3, dtype=torch.int32)
        self._pending: dist.Work | None = None

    @classmethod
    def join(cls, *, gpu_required: bool) -> Ranks:
        """Meets the other processes that torchrun started, or stands alone without torchrun.

        Raises BadEnvironment when a GPU is required or shared among processes.
        """
        rank, local_rank = (int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK"))
        world, local_world = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        device = _device(local_rank, local_world, gpu_required=gpu_required)
        if world > 1 and device.type == "cuda":
            dist.init_process_group("nccl", timeout=TIMEOUT, device_id=device)
        elif world > 1:
            dist.init_process_group("gloo", timeout=TIMEOUT)
        return cls(rank=rank, world=world, local_rank=local_rank, local_world=local_world, device=device)

    @property
    def device_name(self) -> str:
        """What this process computes on, for people."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"

    def leave(self) -> None:
        """Parts from the others once all are here. Not to be called after a failure: the others may be gone.

        The process should end without finalisation: torch 2.6 may hang when it destroys a group, waiting for a thread
        of gloo's that waits for the interpreter.
        """
        if self.world > 1:
            self._collect_votes()
            dist.barrier(self._control)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with its gradients averaged over ranks. Its forward pass must go through what is returned."""
        if self.world == 1:
            return model
        device_ids = [self.device] if self.device.type == "cuda" else None
        # The buffers are constants. What leaves them alone before each forward pass is named differently by releases of
        # torch; this is not.
        constants = [name for name, _ in model.named_buffers()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
            model, constants
        )
        # Every parameter gets a gradient in every pass.
        return DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True)

    def accumulating(self, wrapped: nn.Module, *, last: bool) -> AbstractContextManager[object]:
        """Context of a micro-step: gradients add up on each rank alone, and are averaged over ranks in the last."""
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) and not last else nullcontext()

    def mean(self, tensor: Tensor) -> Tensor:
        """Mean over ranks, differentiable: the reducer that the tokenizer's quantizer is given."""
        return tensor if self.world == 1 else _mean_over_ranks(tensor, self.world)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over ranks, in place."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def on_first(self, work: Callable[[], Value]) -> Value:
        """What `work` returns on rank 0, on every rank; its TrainerError is raised on every rank too.

        No rank goes on before rank 0 is done.
        """
        if self.world == 1:
            return work()
        outcome: list[tuple[Value | None, TrainerError | None]] = [(None, None)]
        if self.rank == 0:
            outcome = [_attempt(work)]
        dist.broadcast_object_list(outcome, group=self._control)
        value, error = outcome[0]
        if error is not None:
            raise error
        return cast(Value, value)

    def one_by_one_per_node(self, work: Callable[[], Value]) -> Value:
        """What `work` returns on this rank, after the first rank of this node is done with its own.

        So the first prepares a cache that the others find. A TrainerError on any rank is raised on every rank.
        """
        value = self.together(work if self.local_rank == 0 else lambda: None)
        others = self.together(work if self.local_rank != 0 else lambda: None)
        return cast(Value, value if self.local_rank == 0 else others)

    def once_per_node(self, work: Callable[[], Value]) -> Value:
        """What `work` returns on the first rank of this node, on all of its ranks.

        A TrainerError on any node is raised on every rank.
        """
        value = self.together(work if self.local_rank == 0 else lambda: None)
        first = self.rank - self.local_rank  # torchrun numbers the ranks of a node in a row
        return cast(Value, self.gather(value)[first])

    def together(self, work: Callable[[], Value]) -> Value:
        """What `work` returns on this rank, once all are done. A TrainerError on any rank is raised on every rank."""
        if self.world == 1:
            return work()
        value, error = _attempt(work)
        for other in self.gather(error):
            if other is not None:
                raise other
        return cast(Value, value)

    def gather(self, value: Value) -> list[Value]:
        """Every rank's value, by rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self._control)
        return values

    def vote(self, *, stop: bool, save: bool, failed: bool) -> Ballot:
        """Casts this rank's vote and returns the result of the previous call: true if any rank voted for it.

        The exchange runs beside the computation of a step, so no rank waits for it, and every rank learns the outcome
        at the same boundary. All ranks must call it equally often.
        """
        if self.world == 1:
            return Ballot(stop, save, failed)
        ballot = self._collect_votes()
        self._votes = torch.tensor([stop, save, failed], dtype=torch.int32)
        self._pending = dist.all_reduce(self._votes, dist.ReduceOp.MAX, group=self._control, async_op=True)
        return ballot

    def _collect_votes(self) -> Ballot:
        if self._pending is None:
            return Ballot(False, False, False)
        self._pending.wait()
        self._pending = None
        return Ballot(*self._votes.bool().tolist())


def _device(local_rank: int, processes: int, *, gpu_required: bool) -> torch.device:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus == 0:
        if gpu_required:
            raise BadEnvironment(
                "no CUDA GPU is visible, and this run must not train on a CPU; check the node's driver and device "
                "plugin, or set resources.gpusPerNode to 0"
            )
        return torch.device("cpu")
    if processes > gpus:
        raise BadEnvironment(
            f"{processes} processes on this machine share {gpus} GPU(s), which NCCL cannot do; start at most {gpus} "
            "(resources.processesPerNode, or torchrun's --nproc_per_node)"
        )
    equal_bits()
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def equal_bits() -> None:
    """Makes every step on a GPU repeatable, which exact resume rests on. Called before the first use of CUDA.

    Left to itself torch adds up the gradients of embeddings and of long attention with atomics, in any order.
    """
    # Without a fixed workspace cuBLAS may choose another kernel from one call to the next.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Where torch knows of it, the compiler then chooses kernels by rules, and not by timing them in each process.
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")
    torch.use_deterministic_algorithms(True)
    # Would fill every new tensor with NaN, for programs that read what they have not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _attempt(work: Callable[[], Value]) -> tuple[Value | None, TrainerError | None]:
    try:
        return work(), None
    except TrainerError as error:
        return None, error


def is_loss_of_peer(error: Exception) -> bool:
    """Whether an operation failed because another rank is gone: that one knows the cause, this one does not."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "by peer" in str(error))


class _MeanOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, world: int) -> Tensor:
        ctx.world = world
        total = tensor.clone()
        dist.all_reduce(total)
        return total / world

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        # Every rank's loss depends on every rank's tensor. DDP averages the losses' gradients, hence the mean here.
        total = grads[0].clone()
        dist.all_reduce(total)
        return total / ctx.world, None


# torch.compile cannot trace the exchange.
_mean_over_ranks: Callable[[Tensor, int], Tensor] = torch.compiler.disable(_MeanOverRanks.apply)  # type: ignore[no-untyped-call]
