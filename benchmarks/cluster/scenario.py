"""What is measured, phase by phase: each ends with its figures."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from benchmarks.cluster.audit import WRITES, AuditLog, Request, created, tally
from benchmarks.cluster.process import Measured, Operator, Scrape
from kronos_operator import names
from kronos_operator.backends.job import JOB
from kronos_operator.kube import Cluster
from kronos_operator.kube.kinds import KRONOSMODEL
from kronos_trainer.config import StageName

NAMESPACE = "default"
_HOLD = "kronos-benchmark/hold"
_CLIENTS = 32  # requests of the administrator at a time
_PATIENCE = 3600.0
_TOKENIZER = f"-{StageName.TOKENIZER.short}-"


@dataclass(frozen=True, kw_only=True)
class Life:
    """Models from their creation to Succeeded."""

    models: int
    apply_seconds: float  # until the last model was created
    jobs_seconds: float  # from the first model's creation to that of the last tokenizer Job
    median_delay: float  # seconds from a model's creation to that of its Job
    longest_delay: float
    seconds: float  # until the last model had succeeded
    scrape: Scrape
    writes: Counter[str]
    refused: int  # of the writes
    reads: Counter[str]
    cpu_seconds: float
    peak_mib: float


@dataclass(frozen=True, kw_only=True)
class Restart:
    """The start of an operator among models that are there."""

    models: int
    begun: int  # of these, asked to train once more before the operator was killed
    unstarted: int  # of these, without their Job at that moment
    seconds: float
    jobs_seconds: float  # until the last of the missing Jobs was asked for
    passes: int
    writes: Counter[str]
    cpu_seconds: float
    server_cpu_seconds: float  # of the API server
    peak_mib: float


@dataclass(frozen=True, kw_only=True)
class Expiry:
    """The deletion of what models have left behind."""

    models: int
    deletions: Counter[str]


async def life(admin: Cluster, operator: Operator, audit: AuditLog, models: int) -> Life:
    """Creates models as fast as the API server takes them, and waits until all have succeeded."""
    await _until(operator, lambda seen: True, every=0.1)
    cpu, start = operator.cpu_seconds, time.monotonic()
    await at_once(partial(admin.create, KRONOSMODEL, model_of(n)) for n in range(models))
    applied = time.monotonic() - start
    scrape = await _until(operator, lambda seen: seen.succeeded == models and seen.waiting == 0)
    seconds = time.monotonic() - start
    await prove_success(admin, models)
    requests = audit.read()
    asked = created(requests, KRONOSMODEL.plural)
    jobs = {name: at for name, at in created(requests, JOB.kind.plural).items() if _TOKENIZER in name}
    delays = sorted((at - asked[name.partition(_TOKENIZER)[0]]).total_seconds() for name, at in jobs.items())
    assert len(delays) == models, f"{len(delays)} tokenizer Jobs of {models} models"
    return Life(
        models=models,
        apply_seconds=applied,
        jobs_seconds=(max(jobs.values()) - min(asked.values())).total_seconds(),
        median_delay=delays[models // 2],
        longest_delay=delays[-1],
        seconds=seconds,
        scrape=scrape,
        writes=tally(requests, writes=True),
        refused=sum(one.owner and one.verb in WRITES and one.code >= 400 for one in requests),
        reads=tally(requests, writes=False),
        cpu_seconds=operator.cpu_seconds - cpu,
        peak_mib=operator.peak_mib,
    )


async def begin_anew(admin: Cluster, audit: AuditLog, models: int) -> int:
    """Has models train once more, without an end, and returns when half of them have their Job: how many do."""
    patch = {
        "metadata": {"annotations": {names.RETRAIN_ANNOTATION: "again"}},
        "spec": {"podTemplate": {"annotations": {_HOLD: "true"}}},
    }
    await at_once(
        partial(admin.patch, KRONOSMODEL, NAMESPACE, name_of(n), patch, manager="benchmark") for n in range(models)
    )
    jobs = 0
    while jobs < models // 2:
        await asyncio.sleep(0.05)
        jobs += _new_jobs(audit)
    return jobs


async def after_the_end(audit: AuditLog) -> int:
    """How many more Jobs an operator that was killed has made: what it had asked for may be done after its end."""
    await asyncio.sleep(1)
    return _new_jobs(audit)


async def restart(
    operator: Operator, server: Measured, audit: AuditLog, models: int, begun: int, unstarted: int
) -> Restart:
    """Waits until an operator that has just been started has converged.

    It knows of every model what is left to do, its queue is empty, and every run that was begun has its Job.
    """
    start, requests, since = time.monotonic(), list[Request](), datetime.now(UTC)
    server_cpu = server.cpu_seconds
    while True:
        scrape = await _until(operator, lambda seen: seen.models == models and seen.waiting == 0, every=0.1)
        requests += audit.read()
        jobs = created(requests, JOB.kind.plural)
        if len(jobs) >= unstarted:
            break
    return Restart(
        models=models,
        begun=begun,
        unstarted=unstarted,
        seconds=time.monotonic() - start,
        jobs_seconds=max(((at - since).total_seconds() for at in jobs.values()), default=0.0),
        passes=int(scrape.durations[-1][1]),
        writes=tally(requests, writes=True),
        cpu_seconds=operator.cpu_seconds,
        server_cpu_seconds=server.cpu_seconds - server_cpu,
        peak_mib=operator.peak_mib,
    )


async def expiry(admin: Cluster, operator: Operator, audit: AuditLog, chosen: range) -> Expiry:
    """Lets the children of some ended models expire at once."""
    patch = {"spec": {"childTTLSecondsAfterFinished": 0}}
    await at_once(partial(admin.patch, KRONOSMODEL, NAMESPACE, name_of(n), patch, manager="benchmark") for n in chosen)
    there = {name_of(n) for n in chosen}
    while there:
        await asyncio.sleep(1)
        jobs, _ = await admin.list(JOB.kind, NAMESPACE)
        there &= {job["metadata"]["labels"][names.MODEL_LABEL] for job in jobs}
    await _until(operator, lambda seen: seen.waiting == 0)
    writes = tally(audit.read(), writes=True)
    return Expiry(
        models=len(chosen),
        deletions=Counter({request: count for request, count in writes.items() if request.startswith("delete")}),
    )


def _new_jobs(audit: AuditLog) -> int:
    return len(created(audit.read(), JOB.kind.plural))


def name_of(number: int) -> str:
    """Name of a model, as long as any other's."""
    return f"model-{number:04}"


def model_of(number: int) -> dict[str, Any]:
    """A model as a user writes it: everything else is defaults."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name_of(number), "namespace": NAMESPACE},
        "spec": {
            "timeframe": "1d",
            "data": {"source": {"uri": "s3://bars/daily"}},
            "storage": {"uri": f"s3://models/{number}"},
            "resources": {"nodes": 1},
            "evaluation": {"enabled": False},  # so that its figures compare with those of earlier releases
        },
    }


async def at_once(requests: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Sends requests, some at a time."""
    left = iter(requests)

    async def send() -> None:
        for request in left:
            await request()

    async with asyncio.TaskGroup() as group:
        for _ in range(_CLIENTS):
            group.create_task(send())


async def _until(operator: Operator, done: Callable[[Scrape], bool], every: float = 2.0) -> Scrape:
    """What the operator says when it is done; looked at now and then, for every look takes of its time."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        seen = await asyncio.to_thread(operator.scrape)
        if seen is not None and done(seen):
            return seen
        await asyncio.sleep(every)
    raise RuntimeError(f"not done after {_PATIENCE:.0f} s: {seen}")


async def prove_success(admin: Cluster, models: int) -> None:
    """The server itself says so of each, and has what its trainer told at the end."""
    bodies, _ = await admin.list(KRONOSMODEL, NAMESPACE)
    reasons = Counter(
        condition["reason"]
        for body in bodies
        for condition in body["status"]["conditions"]
        if condition["type"] == "Finished" and condition["status"] == "True"
    )
    assert reasons == {"Succeeded": models}, reasons
    told = sum(bool(body["status"].get("metrics")) for body in bodies)
    assert told == models, f"of {models - told} models no log was read"
