"""Windows a second of the data path, 90 bars of lookback and 10 of horizon: gather, normalise, clip."""

from __future__ import annotations

import torch

from benchmarks.series import hourly_bars, hourly_frame
from benchmarks.timing import interleave, show
from benchmarks.upstream import WindowDataset, loader
from kronos_trainer.config import Data, Window
from kronos_trainer.data.windows import epoch_order, split_bars

LOOKBACK, HORIZON, BATCH, BATCHES = 90, 10, 32, 20


def run() -> None:
    """Upstream's loader, our shuffled batches, our bulk reading, in turns."""
    data = Data.model_validate({"source": {"path": "-"}})
    windows = split_bars(hourly_bars(), data, Window(lookback=LOOKBACK, horizon=HORIZON)).train
    theirs = loader(WindowDataset({"EURUSD": hourly_frame()}, lookback=LOOKBACK, horizon=HORIZON), BATCH)
    count = BATCH * BATCHES
    order = epoch_order(len(windows), seed=0, stage="bench", epoch=0, limit=None)[:count]
    inorder = torch.arange(count)

    def upstream() -> None:
        batches = iter(theirs)
        for _ in range(BATCHES):
            next(batches)

    def shuffled() -> None:
        for start in range(0, count, BATCH):
            batch = order[start : start + BATCH]
            windows.values(batch), windows.stamps(batch)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        timings = interleave(
            {"upstream, DataLoader": upstream, "shuffled batches": shuffled, "bulk": lambda: windows.values(inorder)},
            rounds=15,
        )
    finally:
        torch.set_num_threads(threads)
    show(
        f"Data path, {LOOKBACK} -> {HORIZON}, batches of {BATCH}, one thread",
        "windows/s",
        count,
        timings,
        {"shuffled batches": 40, "bulk": 100},
    )
