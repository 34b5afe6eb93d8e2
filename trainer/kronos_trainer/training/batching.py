"""Which windows a process uses in which forward pass: pure arithmetic, used by the loop.

The batch size counts windows over all processes, so the same run trains the same model on one GPU and on eight.
"""

from __future__ import annotations

from dataclasses import dataclass

from kronos_trainer.config import Training
from kronos_trainer.errors import ConfigError, DataError

MICRO_ON_CPU = 16  # windows; more at once are no faster there
VALIDATION_TOKENS = {"cpu": 8_192, "cuda": 65_536}  # scored at once; a CPU is to answer SIGTERM in between
COMPILED_STEPS = 20_000  # on an H200 mini saves 2.8 ms a step, and compiling takes about a minute


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """How one optimizer step's windows are divided."""

    batch: int  # windows per optimizer step, over all processes
    micro: int  # windows per process and forward pass
    world: int  # processes

    @property
    def micro_steps(self) -> int:
        """Forward passes per process and optimizer step."""
        return self.batch // (self.micro * self.world)

    def part(self, micro_step: int, rank: int) -> slice:
        """The windows of a rank in a micro-step, within the step's batch.

        All ranks' parts of one micro-step lie side by side, so that two processes use in a micro-step what one
        process with twice the micro-batch uses.
        """
        start = (micro_step * self.world + rank) * self.micro
        return slice(start, start + self.micro)


def plan_batches(
    *, batch_size: int, micro_batch_size: int | None, device: str, world: int, out_of_memory_restarts: int
) -> BatchPlan:
    """The plan for `world` processes on a type of device, the micro-batch reduced once per restart for lack of memory.

    Without a micro-batch size it follows from the device's type alone, not from its free memory: the same run has the
    same micro-steps again. A GPU takes the whole batch, since each pass costs the host hundreds of launches.

    Raises ConfigError when the batch cannot be divided, or the micro-batch not be reduced any further.
    """
    if batch_size % world:
        below = batch_size // world * world
        nearest = f"{below} or {below + world}" if below else f"{world}"
        raise ConfigError(
            f"batchSize {batch_size} is not divisible by {world} processes; the nearest valid values: {nearest}. "
            "Change batchSize or the number of processes"
        )
    limit = micro_batch_size or (batch_size if device == "cuda" else MICRO_ON_CPU)
    micro = _largest_divisor(batch_size // world, at_most=limit)
    for _ in range(out_of_memory_restarts):
        if micro == 1:
            raise ConfigError(too_large(checkpointing=False))
        micro = reduced(micro)
    return BatchPlan(batch=batch_size, micro=micro, world=world)


def reduced(micro: int) -> int:
    """The largest proper divisor of a micro-batch above 1."""
    return _largest_divisor(micro, at_most=micro // 2)


def too_large(*, checkpointing: bool) -> str:
    """The error for a GPU that is too small for one window; `checkpointing`: already enabled."""
    set_it = "" if checkpointing else "set training.gradientCheckpointing, "
    return (
        f"out of memory with 1 window per process and forward pass, which cannot be reduced; {set_it}shorten "
        "window.lookback, or use a smaller model or a GPU with more memory"
    )


def steps_per_epoch(*, windows: int, windows_per_epoch: int | None, batch: int) -> int:
    """Whole optimizer steps that an epoch is cut into. Raises DataError when there is none."""
    used = windows if windows_per_epoch is None else min(windows, windows_per_epoch)
    if used < batch:
        limit = "" if used == windows else f", limited by windowsPerEpoch to {used}"
        raise DataError(
            f"an epoch has no complete optimizer step: the train split has {windows} windows{limit}, but batchSize is "
            f"{batch}; set batchSize to {used} or less, or add bars"
        )
    return used // batch


def compiles(training: Training, *, device: str, steps: int) -> bool:
    """Whether a stage of so many steps is compiled: as configured, else where it pays off, by numbers that a resumed
    run meets again."""
    return device == "cuda" and steps >= COMPILED_STEPS if training.compile is None else training.compile


def validation_size(*, length: int, device: str, windows: int, world: int, out_of_memory_restarts: int) -> int:
    """Validation windows of `length` bars that a rank scores at once."""
    most = max(1, (VALIDATION_TOKENS[device] // length) >> out_of_memory_restarts)
    return shared(windows, world=world, at_most=most)


def shared(count: int, *, world: int, at_most: int) -> int:
    """How many of `count` a rank takes at once, so that all ranks have their part of few."""
    return min(at_most, -(-count // world))


def validation_rounds(*, windows: int, size: int, world: int) -> int:
    """Forward passes that every rank takes part in until each window was used once."""
    return -(-windows // (size * world))


def validation_part(round_index: int, rank: int, *, windows: int, size: int, world: int) -> range:
    """The windows of a rank in a round; empty for some ranks in the last."""
    start = (round_index * world + rank) * size
    return range(min(start, windows), min(start + size, windows))


def _largest_divisor(number: int, *, at_most: int) -> int:
    return next(divisor for divisor in range(min(at_most, number), 0, -1) if number % divisor == 0)
