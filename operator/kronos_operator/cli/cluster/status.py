"""`kronos status` in a cluster: what the operator has written into the objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from kronos_operator.cli.cluster.session import Session, connected
from kronos_operator.cli.target import Target
from kronos_operator.cli.terminal import number, print_json, print_line, print_table
from kronos_operator.cli.verdicts import verdict_lines
from kronos_operator.cli.watching import watch_table
from kronos_operator.durations import duration
from kronos_trainer.stages import StageName

if TYPE_CHECKING:
    from kronos_operator.kube import Object

HEADERS = ("model", "phase", "stage", "done", "eta", "val loss", "verdict", "reason", "attempt", "age")
RIGHT = frozenset({"done", "eta", "val loss", "attempt", "age"})
_NEWEST_RUNS = 5


def show(target: Target, name: str | None, *, watch: bool, as_json: bool) -> None:
    """Print the models of a namespace, or one of them in detail."""
    with connected(target) as session:
        if watch:
            _watch(session, name)
        bodies = _chosen(session, name)
        if as_json:
            print_json([_document(body) for body in bodies])
            return
        print_table(HEADERS, [row_of(body, datetime.now(UTC)) for body in bodies], right=RIGHT)
        if name is not None:
            _detail(bodies[0])


def condition(body: Object, kind: str) -> Mapping[str, Any]:
    """A condition of the model, empty while it has none."""
    return next((one for one in _status(body).get("conditions") or [] if one["type"] == kind), {})


def row_of(body: Object, now: datetime) -> list[str]:
    """A line of the table."""
    status = _status(body)
    progress, run = status.get("progress") or {}, status.get("run") or {}
    reason = condition(body, "Ready").get("reason") or "not processed by the operator yet"
    age = now - datetime.fromisoformat(body["metadata"]["creationTimestamp"])
    return [
        body["metadata"]["name"],
        status.get("phase") or "-",
        status.get("stage") or "-",
        progress.get("summary") or "-",
        progress.get("eta") or "-",
        number(progress.get("validationLoss")),
        (status.get("evaluation") or {}).get("verdict") or "-",
        f"{reason}, place {status['queuePosition']}" if "queuePosition" in status else reason,
        str(run["attempt"]) if "attempt" in run else "-",
        duration(age.total_seconds()),
    ]


def _watch(session: Session, name: str | None) -> NoReturn:
    from kronos_operator.kube import Unavailable

    last: Sequence[list[str]] = ()

    def read() -> Sequence[list[str]]:
        nonlocal last
        try:
            last = [row_of(body, datetime.now(UTC)) for body in _chosen(session, name)]
        except Unavailable:
            # A watch outlives a restart of the API server; one that never answered is an error.
            if not last:
                raise
        return last

    watch_table(HEADERS, read, right=RIGHT)


def _chosen(session: Session, name: str | None) -> list[Object]:
    return session.models() if name is None else [session.model(name)]


def _detail(body: Object) -> None:
    status = _status(body)
    ready, run = condition(body, "Ready"), status.get("run") or {}
    if not ready:
        return  # the operator has not written anything yet
    print_line()
    if ready.get("message"):
        print_line(ready["message"], style="red" if ready["status"] == "False" else None)
    if run:
        begun = f", since {run['startedAt']}" if run.get("startedAt") else ""
        print_line(f"{'run':<11}{run['id']}, attempt {run.get('attempt', 0)}{begun}")
    counts = run.get("restarts") or {}
    restarts = {cause: count for cause, count in counts.items() if isinstance(count, int) and count}
    if restarts:
        print_line(f"{'restarts':<11}{', '.join(f'{count} {cause}' for cause, count in restarts.items())}")
    artifacts = status.get("artifacts") or {}
    for stage in StageName:
        if artifacts.get(stage):
            print_line(f"{stage.value:<11}{artifacts[stage]['path']}")
    _print_verdict(status)
    promotion = status.get("promotion")
    if promotion:
        failed = promotion["outcome"] != "Succeeded"
        what = f"{promotion['action']} failed, {promotion['reason']}" if failed else promotion["reason"]
        words = f"{what}: {promotion.get('message', '')} ({promotion['time']})"
        print_line(f"{'promotion':<11}{words}", style="red" if failed else None)
    if status.get("metrics"):
        print_line(f"{'metrics':<11}{', '.join(f'{key} {number(value)}' for key, value in status['metrics'].items())}")
    for note in status.get("notes") or []:
        print_line(f"{'note':<11}{note}")
    following = (status.get("schedule") or {}).get("nextTime")
    if following:
        print_line(f"{'next run':<11}{following}")
    for entry in (status.get("history") or [])[:_NEWEST_RUNS]:
        told = (entry["outcome"], *(entry.get(key) for key in ("reason", "verdict", "promotion", "finishedAt")))
        ending = " ".join(filter(None, told))
        print_line(f"{'ended':<11}{entry['run']} {ending}")
    failure = status.get("failure")
    if failure:
        print_line()
        print_line(f"{failure['reason']}: {failure.get('message', '')}", style="red")
        if failure.get("logTail"):
            print_line(failure["logTail"])


def _print_verdict(status: Mapping[str, Any]) -> None:
    from kronos_operator.api import Evaluated

    run, report = status.get("run") or {}, status.get("report")
    if status.get("evaluation"):
        found = Evaluated.model_validate(status["evaluation"], extra="ignore")  # an operator of another release's
        if found.run != run.get("id"):
            print_line(f"{'evaluated':<11}{found.run}, an earlier run")
        for label, text in verdict_lines(found):
            print_line(f"{label:<11}{text}")
    if report:
        print_line(f"{'report':<11}{report}")


def _document(body: Object) -> dict[str, Any]:
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return {**body, "metadata": metadata}


def _status(body: Object) -> dict[str, Any]:
    status: dict[str, Any] = body.get("status") or {}
    return status
