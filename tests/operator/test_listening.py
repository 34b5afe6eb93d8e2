"""What is kept of the logs that are read: thousands of gangs may run at once."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from kronos_operator.api import Status
from kronos_operator.kube import Cluster, Key
from kronos_operator.plan import AttemptState
from kronos_operator.reconcile.gangs import Gang
from kronos_operator.reconcile.listening import Listening
from kronos_trainer.config import StageName

KEY = Key("ns", "m")
POD = {
    "metadata": {"name": "p", "namespace": "ns", "labels": {"batch.kubernetes.io/job-completion-index": "0"}},
    "status": {"containerStatuses": [{"name": "trainer"}]},
}
GANG = Gang(run="r", stage=StageName.TOKENIZER, number=0, workload=None, pods=(POD,))


class Logs:
    def __init__(self, *texts: str | None) -> None:
        self._texts = list(texts)

    async def pod_log(self, *_: Any, **__: Any) -> str | None:
        return self._texts.pop(0)


def heard(*texts: str | None) -> str:
    """What is remembered after each of these texts was read."""

    async def run() -> str:
        listening = Listening(cast(Cluster, Logs(*texts)), every_seconds=30.0)
        for turn in range(len(texts)):
            await listening.hear(KEY, GANG, AttemptState.RUNNING, Status(), 1000.0 + 31 * turn)
        return listening.log(KEY)

    return asyncio.run(run())


def test_what_libraries_print_does_not_drown_a_line_of_the_trainer() -> None:
    lines = ['{"kronos":1,"event":"progress","step":7}', *(200 * ["W1125 a library has something to say"])]

    class Chatty:
        async def pod_log(self, *_: Any, tail_lines: int, limit_bytes: int, **__: Any) -> str:
            return "\n".join(lines[-tail_lines:])[:limit_bytes]

    listening = Listening(cast(Cluster, Chatty()), every_seconds=30.0)
    report = asyncio.run(listening.hear(KEY, GANG, AttemptState.RUNNING, Status(), 1000.0))
    assert (report.progress["step"], report.heard_at) == (7, 1000.0)


def test_only_the_last_words_are_kept_and_they_outlive_a_failed_read() -> None:
    text = "early\n" + 60000 * "x" + "\nRuntimeError: no space\n\n"
    kept = heard(text, None)
    assert kept.endswith("x\nRuntimeError: no space")
    assert len(kept) == 2048
