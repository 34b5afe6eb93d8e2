"""A rank that only loads its bars, as a stage does, and counts how often it opens their file, for test_two_ranks.py."""

from __future__ import annotations

import sys
from pathlib import Path

from kronos_trainer.config import load_run
from kronos_trainer.training.distributed import Ranks
from kronos_trainer.training.rank import end
from kronos_trainer.training.train import read_bars_once

if __name__ == "__main__":
    config = Path(sys.argv[-1])
    run = load_run(config)
    opened: list[str] = []
    ranks = Ranks.join(gpu_required=False)
    sys.addaudithook(lambda name, given: opened.append(name) if name == "open" and str(given[0]) == run.bars else None)
    bars = read_bars_once(run, ranks, config.parent / "cache", lambda: None)
    (config.parent / f"opened-{ranks.rank}").write_text(f"{len(opened)} {bars.digest} {len(bars.values)}")
    ranks.leave()
    end(0)
