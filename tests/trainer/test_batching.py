"""Who sees which windows: the arithmetic of batches, micro-batches and validation shards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kronos_trainer.config import Training
from kronos_trainer.errors import ConfigError, DataError
from kronos_trainer.training.batching import (
    BatchPlan,
    compiles,
    plan_batches,
    steps_per_epoch,
    too_large,
    validation_part,
    validation_rounds,
    validation_size,
)


@pytest.mark.parametrize(
    ("batch", "limit", "world", "restarts", "micro", "micro_steps"),
    [
        (64, 16, 1, 0, 16, 4),
        (64, 16, 4, 0, 16, 1),
        (64, 16, 8, 0, 8, 1),
        (64, 48, 1, 0, 32, 2),  # the limit does not divide the share
        (50, 16, 1, 0, 10, 5),
        (7, 6, 1, 0, 1, 7),
        (64, 16, 1, 1, 8, 8),
        (64, 16, 1, 4, 1, 64),
        (90, 45, 1, 1, 15, 6),  # largest proper divisor of 45
        (90, 45, 1, 2, 5, 18),
    ],
)
def test_table(batch: int, limit: int, world: int, restarts: int, micro: int, micro_steps: int) -> None:
    plan = plan_batches(
        batch_size=batch, micro_batch_size=limit, device="cpu", world=world, out_of_memory_restarts=restarts
    )
    assert (plan.micro, plan.micro_steps) == (micro, micro_steps)
    assert plan.micro * plan.micro_steps * world == batch


@pytest.mark.parametrize(
    ("device", "world", "restarts", "micro"),
    [("cpu", 1, 0, 16), ("cpu", 8, 0, 12), ("cuda", 1, 0, 96), ("cuda", 4, 0, 24), ("cuda", 1, 2, 24)],
)
def test_without_a_limit_a_gpu_takes_all_at_once(device: str, world: int, restarts: int, micro: int) -> None:
    plan = plan_batches(
        batch_size=96, micro_batch_size=None, device=device, world=world, out_of_memory_restarts=restarts
    )
    assert plan.micro == micro


def test_only_long_trainings_on_a_gpu_are_compiled_by_default() -> None:
    chosen = {
        (asked, device, steps): compiles(Training(compile=asked), device=device, steps=steps)
        for asked in (None, True, False)
        for device in ("cpu", "cuda")
        for steps in (19_999, 20_000)
    }
    assert {case for case, chosen in chosen.items() if chosen} == {
        (None, "cuda", 20_000),
        *((True, device, steps) for device in ("cpu", "cuda") for steps in (19_999, 20_000)),
    }


@given(length=st.integers(4, 600), windows=st.integers(1, 3000), world=st.integers(1, 4), restarts=st.integers(0, 12))
def test_validation_batches_are_bounded_in_tokens_and_shared_evenly(
    length: int, windows: int, world: int, restarts: int
) -> None:
    size = validation_size(length=length, device="cuda", windows=windows, world=world, out_of_memory_restarts=restarts)
    assert size == 1 or size * length <= 65_536 / 2**restarts
    assert 1 <= size <= -(-windows // world)


@pytest.mark.parametrize(("batch", "world", "nearest"), [(64, 3, "63 or 66"), (2, 3, "3"), (10, 4, "8 or 12")])
def test_an_indivisible_batch_names_the_numbers_that_would_do(batch: int, world: int, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"batchSize {batch}.* {world} processes.*: {nearest}\\."):
        plan_batches(batch_size=batch, micro_batch_size=16, device="cpu", world=world, out_of_memory_restarts=0)


def test_a_micro_batch_of_one_cannot_be_reduced() -> None:
    with pytest.raises(
        ConfigError, match=r"out of memory with 1 window.*; set training\.gradientCheckpointing, shorten"
    ):
        plan_batches(batch_size=64, micro_batch_size=16, device="cpu", world=1, out_of_memory_restarts=5)


def test_gradient_checkpointing_is_not_advised_where_it_is_on() -> None:
    assert "cannot be reduced; shorten window.lookback" in too_large(checkpointing=True)


@given(micro=st.integers(1, 5), micro_steps=st.integers(1, 4), world=st.integers(1, 4))
def test_parts_of_a_step_cover_the_batch_once(micro: int, micro_steps: int, world: int) -> None:
    plan = BatchPlan(batch=micro * micro_steps * world, micro=micro, world=world)
    windows = range(plan.batch)
    seen = [
        window
        for micro_step in range(plan.micro_steps)
        for rank in range(world)
        for window in windows[plan.part(micro_step, rank)]
    ]
    assert seen == list(windows)


@given(windows=st.integers(1, 200), size=st.integers(1, 20), world=st.integers(1, 5))
def test_validation_sees_every_window_once(windows: int, size: int, world: int) -> None:
    rounds = validation_rounds(windows=windows, size=size, world=world)
    parts = [
        validation_part(index, rank, windows=windows, size=size, world=world)
        for index in range(rounds)
        for rank in range(world)
    ]
    assert sorted(window for part in parts for window in part) == list(range(windows))
    assert any(parts[-world:])  # no round in which nobody has work


def test_an_epoch_is_whole_steps() -> None:
    assert steps_per_epoch(windows=130, windows_per_epoch=None, batch=64) == 2
    assert steps_per_epoch(windows=130, windows_per_epoch=100, batch=64) == 1
    assert steps_per_epoch(windows=64, windows_per_epoch=None, batch=64) == 1


def test_an_epoch_without_a_whole_step_names_the_counts() -> None:
    with pytest.raises(DataError, match=r"has 63 windows, but batchSize is 64.*to 63"):
        steps_per_epoch(windows=63, windows_per_epoch=None, batch=64)
    with pytest.raises(DataError, match=r"130 windows, limited by windowsPerEpoch to 40, but batchSize is 64.*to 40"):
        steps_per_epoch(windows=130, windows_per_epoch=40, batch=64)
