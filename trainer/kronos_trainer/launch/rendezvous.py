"""This node's rank in its gang, from torchrun's PET_* variables; without them it is the only node."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping

from kronos_trainer.errors import NodesDidNotMeet

_SECONDS = 600.0  # torchrun's own default; PET_RDZV_CONF may set another


def nodes(environ: Mapping[str, str]) -> int:
    """How many nodes there are."""
    return int(environ.get("PET_NNODES", "1").split(":")[-1])


def is_first(environ: Mapping[str, str]) -> bool:
    """Whether this node has rank 0."""
    return nodes(environ) == 1 or environ.get("PET_NODE_RANK", "0") == "0"


def wait_for_first(environ: Mapping[str, str]) -> None:
    """Waits until the first node accepts connections. Raises NodesDidNotMeet if it does not in time."""
    if is_first(environ) or "PET_MASTER_ADDR" not in environ:
        return
    address = (environ["PET_MASTER_ADDR"], int(environ.get("PET_MASTER_PORT", "29500")))
    deadline = _seconds(environ)
    end = time.monotonic() + deadline
    while True:
        try:
            socket.create_connection(address, timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() >= end:
                raise NodesDidNotMeet(
                    f"the first node does not answer at {address[0]}:{address[1]} after {deadline:g} s ({error}); "
                    "is its pod running, and does PET_MASTER_ADDR name it?"
                ) from error
        time.sleep(0.5)


def _seconds(environ: Mapping[str, str]) -> float:
    """`timeout` of PET_RDZV_CONF, which is a list like `timeout=1800,is_host=0`; seconds."""
    found = re.search(r"(?:^|,)\s*timeout\s*=\s*(\d+)", environ.get("PET_RDZV_CONF", ""))
    return float(found[1]) if found else _SECONDS
