"""torchrun, as a thread: it starts the ranks of this node and waits for them.

A thread, so that the launcher handles signals even while torchrun imports torch, waits for other nodes in C++ or
resolves the name of one. From torch 2.6 on, torchrun sets no signal handlers there.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from kronos_trainer import threads
from kronos_trainer.errors import NodesDidNotMeet
from kronos_trainer.launch import rank_files, rendezvous
from kronos_trainer.launch.local_ranks import START_RANK


class Torchrun(threading.Thread):
    """Starts `command` once per rank of this node. Its attributes have the outcome once it has ended."""

    def __init__(self, command: Sequence[str], processes: int | None, scratch: Path) -> None:
        super().__init__(name="torchrun", daemon=True)
        self.exit_codes: dict[int, int] = {}  # of the ranks that failed, the first to fail first; negative: the signal
        self.error: NodesDidNotMeet | None = None
        self.failure = ""  # why no rank could be started
        self._command = command
        self._processes = processes
        self._scratch = scratch

    def run(self) -> None:
        """The thread."""
        try:
            rendezvous.wait_for_first(os.environ)
            self._launch()
        except NodesDidNotMeet as error:
            self.error = error
        except (Exception, SystemExit) as error:  # torchrun's own parser of settings exits
            self.failure = f"{type(error).__name__}: {error}"

    def _launch(self) -> None:
        # Read when torch is loaded, here and in the ranks: its warnings of a peer's closed connection, which is how
        # every gang ends, would stand beside the message of the rank that is the cause.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        threads.sleep_while_waiting(os.environ)
        count = self._processes or _default_processes(os.environ)
        os.environ[rank_files.DIRECTORY] = str(self._scratch)
        threads.share_cores(os.environ, count)
        if (rendezvous.nodes(os.environ), count) == (1, 1):
            self._start_alone()
        else:
            self._start_gang(count)

    def _start_alone(self) -> None:
        """The only rank, without torchrun: it meets nobody, and would wait for torch to be imported here and there."""
        alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
        start = START_RANK.replace("$$$$", "$$")
        rank = subprocess.Popen(
            ["/bin/sh", "-c", start, *self._command], env=os.environ | alone, start_new_session=True
        )
        code = rank.wait()
        self.exit_codes = {0: code} if code else {}

    def _start_gang(self, count: int) -> None:
        from torch.distributed import DistStoreError
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import elastic_launch
        from torch.distributed.run import config_from_args, get_args_parser

        # torchrun's warnings and tracebacks would bury the message of the rank that is the cause.
        logging.disable(logging.CRITICAL)
        options = get_args_parser().parse_args(["--no-python", "--log-dir", str(self._scratch / "torchrun"), "/bin/sh"])
        options.nproc_per_node = str(count)
        options.max_restarts = 0
        if rendezvous.nodes(os.environ) == 1:
            options.nnodes, options.node_rank = "1", 0
            options.rdzv_backend, options.rdzv_endpoint, options.rdzv_id = "c10d", "localhost:0", uuid.uuid4().hex
            options.local_addr = "localhost"
        config, shell, _ = config_from_args(options)
        try:
            elastic_launch(config, shell)("-c", START_RANK, *self._command)
        except ChildFailedError as error:
            self.exit_codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        except DistStoreError as error:
            raise NodesDidNotMeet(f"the nodes did not meet: {error} Is every pod running?") from error


def _default_processes(environ: Mapping[str, str]) -> int:
    """PET_NPROC_PER_NODE if it is a number, else one process per GPU, else one."""
    text = environ.get("PET_NPROC_PER_NODE", "")
    if text.isdigit():
        return max(1, int(text))
    import torch

    return max(1, torch.cuda.device_count())
