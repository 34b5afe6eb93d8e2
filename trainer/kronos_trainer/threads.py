"""How torch's threads wait for work, and how many there are. Set before torch is imported, which reads it once.

By default a thread that waits for the others of its process spins. With fewer free cores than threads
(other processes are busy, or the CPU limit of a pod is below its threads) it spins away the time that the other thread
needs: a step takes many times as long (docs/performance.md). Threads that sleep instead compute the same bits.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

_WAITING = {
    # GNU's OpenMP, of PyPI's torch and of Debian's, and LLVM's, of macOS. Even a short spin (GOMP_SPINCOUNT) is slower.
    "OMP_WAIT_POLICY": "PASSIVE",
    # OpenBLAS has threads of its own, in Debian's torch. Each spins for 2^n cycles after its last work; 4 is the least.
    "OPENBLAS_THREAD_TIMEOUT": "4",
}


def sleep_while_waiting(environ: MutableMapping[str, str]) -> None:
    """Sets what is not set yet. After the import of torch it only affects child processes."""
    for name, value in _WAITING.items():
        environ.setdefault(name, value)


def share_cores(environ: MutableMapping[str, str], processes: int) -> None:
    """Divides the cores of this machine among the processes of a node, unless OMP_NUM_THREADS is set."""
    environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
