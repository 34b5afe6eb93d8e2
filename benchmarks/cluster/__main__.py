"""`python -m benchmarks.cluster [1000 5000 ...]`: the operator under so many models, on a control plane of its own.

`python -m benchmarks.cluster restart [5000 ...]`: only its restart among so many, which are copies of one model.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.cluster.audit import AuditLog
from benchmarks.cluster.copies import copy_model
from benchmarks.cluster.faked import FakedCluster
from benchmarks.cluster.jobset import JobSetCluster, JobSets, jobsets
from benchmarks.cluster.process import Measured, quiet, running
from benchmarks.cluster.scenario import (
    Expiry,
    Life,
    Restart,
    after_the_end,
    begin_anew,
    expiry,
    life,
    name_of,
    prove_success,
    restart,
)
from kronos_operator.kube import Cluster

_WRITES, _RSS_MIB, _RESTART_SECONDS = 12.0, 200.0, 15.0  # goals, at 5,000 models
_EXPIRED = 100
_MOST_JOBSETS = 1000  # a comparison needs no more


def main(counts: list[int], *, copied: bool) -> None:
    """Measures with each number of models, or of copies of one, and prints the figures."""
    # As any other failure, so that everything is cleared away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(
        f"{os.cpu_count()} cores for everything: etcd, API server, controllers, kwok, this benchmark and the operator"
    )
    for models in counts:
        print(f"\n{models:,} models", flush=True)
        # The processes die with this one's main thread, so nothing is left even if it is killed.
        with tempfile.TemporaryDirectory(prefix="kronos-benchmark-", ignore_cleanup_errors=True) as directory:
            ours, theirs = Path(directory) / "operator", Path(directory) / "jobset"
            ours.mkdir(), theirs.mkdir()
            compared = models <= _MOST_JOBSETS and not copied
            clusters = [FakedCluster(ours), *([JobSetCluster(theirs)] if compared else [])]
            for cluster in clusters:
                try:
                    cluster.start()
                    asyncio.run(_measure(cluster, models, copied=copied))
                except BaseException:
                    _show_log(cluster)
                    raise
                finally:
                    cluster.stop()


async def _measure(cluster: FakedCluster, models: int, *, copied: bool) -> None:
    if isinstance(cluster, JobSetCluster):
        async with await Cluster.connect(kubeconfig=cluster.kubeconfig) as admin:
            _show_jobsets(await jobsets(admin, cluster, models, min(_EXPIRED, models)))
        return
    audit = AuditLog(cluster.audit_log)
    begun = models // 10
    async with await Cluster.connect(kubeconfig=cluster.kubeconfig) as admin:
        with running(cluster) as operator:
            seen = await life(admin, operator, audit, 1 if copied else models)
        if copied:
            with cluster.only_etcd() as etcd:
                await copy_model(etcd, name_of(0), map(name_of, range(1, models)))
            await prove_success(admin, models)
            await quiet(cluster)
        else:
            _show_life(seen)
        server = Measured(cluster.pid("kube-apiserver"))
        with running(cluster) as operator:
            _show_restart(await restart(operator, server, audit, models, begun=0, unstarted=0))
            jobs = await begin_anew(admin, audit, begun)
        unstarted = begun - jobs - await after_the_end(audit)
        with running(cluster) as operator:
            _show_restart(await restart(operator, server, audit, models, begun, unstarted))
            if not copied:
                _show_expiry(await expiry(admin, operator, audit, range(begun, begun + min(_EXPIRED, models - begun))))


def _show_log(cluster: FakedCluster) -> None:
    for log in (cluster.operator_log, cluster.directory / "jobset.log"):
        if log.exists():
            print(log.read_text()[-4000:], file=sys.stderr)


def _show_life(seen: Life) -> None:
    events = sum(count for request, count in seen.writes.items() if request.endswith(" events"))
    writes = (seen.writes.total() - events) / seen.models
    _say("applied in", f"{seen.apply_seconds:.1f} s, {seen.models / seen.apply_seconds:.1f} models/s")
    _say("all tokenizer Jobs after", f"{seen.jobs_seconds:.1f} s, {seen.models / seen.jobs_seconds:.1f} models/s")
    _say("from a model to its Job", f"median {seen.median_delay:.2f} s, longest {seen.longest_delay:.2f} s")
    _say("all Succeeded after", f"{seen.seconds:.1f} s, {seen.models / seen.seconds:.1f} models/s")
    _say(
        "reconciliation",
        f"p50 {seen.scrape.quantile(0.5) * 1000:.0f} ms, p99 {seen.scrape.quantile(0.99) * 1000:.0f} ms, "
        f"{seen.scrape.durations[-1][1] / seen.models:.1f} a model, {seen.scrape.errors} failed",
    )
    _say(
        "writes a model",
        f"{writes:.2f}, and {events / seen.models:.2f} Events; {seen.refused} refused",
        writes,
        _WRITES,
    )
    _say("  of these", _a_model(seen.writes, seen.models))
    _say("reads a model", f"{seen.reads.total() / seen.models:.2f}: {_a_model(seen.reads, seen.models)}")
    _say("processor time a model", f"{seen.cpu_seconds / seen.models * 1000:.0f} ms")
    _say("peak RSS", f"{seen.peak_mib:.0f} MiB", seen.peak_mib, _RSS_MIB)


def _show_restart(seen: Restart) -> None:
    undone = f"{seen.begun} trained once more, {seen.unstarted} of these without their Job yet"
    _say("killed while", undone if seen.begun else "nothing was left to do")
    _say("converged after", f"{seen.seconds:.1f} s", seen.seconds, _RESTART_SECONDS)
    _say("  of it", f"{seen.cpu_seconds:.1f} s of the operator's own processor time, {seen.passes} reconciliations")
    _say("  beside it", f"{seen.server_cpu_seconds:.1f} s of the API server's")
    if seen.unstarted:
        _say("  every Job asked for after", f"{seen.jobs_seconds:.1f} s")
    writes = ", ".join(f"{count} {request}" for request, count in sorted(seen.writes.items()))
    _say("  writes meanwhile", writes or "none")
    _say("  peak RSS", f"{seen.peak_mib:.0f} MiB", seen.peak_mib, _RSS_MIB)


def _show_expiry(seen: Expiry) -> None:
    _say("deletions a model, at last", _a_model(seen.deletions, seen.models))


def _show_jobsets(seen: JobSets) -> None:
    _say("the same as JobSets", "sigs.k8s.io/jobset, its webhooks in place, on a control plane of its own")
    _say("all Completed after", f"{seen.seconds:.1f} s, {seen.models / seen.seconds:.1f} models/s")
    events = sum(count for request, count in seen.writes.items() if request.endswith(" events"))
    _say(
        "writes a model",
        f"{(seen.writes.total() - events) / seen.models:.2f}, and {events / seen.models:.2f} Events",
    )
    _say("  of these", _a_model(seen.writes, seen.models))
    _say("reads a model", _a_model(seen.reads, seen.models))
    _say("processor time a model", f"{seen.cpu_seconds / seen.models * 1000:.0f} ms")
    _say("peak RSS", f"{seen.peak_mib:.0f} MiB")
    _say("writes a model, at last", _a_model(seen.deletions, seen.expired))


def _a_model(requests: Counter[str], models: int) -> str:
    return ", ".join(f"{count / models:.2f} {request}" for request, count in sorted(requests.items()))


def _say(what: str, figures: str, value: float | None = None, goal: float = 0.0) -> None:
    verdict = "" if value is None else f"   goal <= {goal:g}: {'met' if value <= goal else 'MISSED'}"
    print(f"  {what:<28} {figures}{verdict}", flush=True)


if __name__ == "__main__":
    restarts = sys.argv[1:2] == ["restart"]
    main([int(text) for text in sys.argv[1 + restarts :]] or ([5000] if restarts else [1000, 5000]), copied=restarts)
