"""`python -m kronos_trainer --run run.json`: one rank of one stage, alone or under torchrun; `launch` starts all ranks.

Imports next to nothing itself: a stop that arrives while the rest is imported, which takes seconds, is remembered.
"""

from __future__ import annotations

import sys

from kronos_trainer.stopping import StopSignal, end_process

if __name__ == "__main__":
    stop_requested = StopSignal()
    if sys.argv[1:2] == ["launch"]:
        from kronos_trainer.launch.launcher import main

        end_process(main(sys.argv[2:], stop_requested))
    from kronos_trainer.training import rank

    rank.end(rank.main(sys.argv[1:], stop_requested))
