"""`kronos list` in a cluster: what its models have published, as the operator has written it into the objects."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kronos_operator.cli.cluster.session import connected
from kronos_operator.cli.listing import age_text, improvement_text
from kronos_operator.cli.target import Target
from kronos_operator.cli.terminal import print_json, print_table

if TYPE_CHECKING:
    from kronos_operator.kube import Object

# The objects know neither the size of files nor the last bar: the last date that was forecast from is the nearest.
HEADERS = ("model", "phase", "published", "verdict", "improved", "age", "tested to")
RIGHT = frozenset({"improved", "age"})


def show(target: Target, *, as_json: bool) -> None:
    """Print the models of a namespace and what each has published."""
    with connected(target) as session:
        documents = [document(body) for body in session.models()]
    if as_json:
        print_json(documents)
        return
    print_table(HEADERS, [_row(one) for one in documents], right=RIGHT)


def document(body: Object) -> dict[str, Any]:
    """What an object says of its published run; where nothing is published, verdict and numbers are the newest."""
    status: Mapping[str, Any] = body.get("status") or {}
    published = (status.get("artifacts") or {}).get("run") or ""
    ended: Mapping[str, Any] = next((one for one in status.get("history") or [] if one["run"] == published), {})
    newest: Mapping[str, Any] = status.get("evaluation") or {}
    found = newest if newest.get("run") == published or not published else {}
    return {
        "namespace": body["metadata"].get("namespace"),
        "name": body["metadata"]["name"],
        "phase": status.get("phase"),
        "published": published or None,
        "verdict": found.get("verdict") or ended.get("verdict"),
        **{name: found.get(name) for name in ("against", "improvement", "low", "high")},
        "since": ended.get("finishedAt"),
        "testedTo": found.get("last"),
    }


def _row(one: Mapping[str, Any]) -> list[str]:
    since = one["since"]
    return [
        one["name"],
        one["phase"] or "-",
        one["published"] or "-",
        one["verdict"] or "-",
        improvement_text(one["improvement"]),
        age_text(None if since is None else datetime.fromisoformat(since)),
        (one["testedTo"] or "-")[:10],
    ]
