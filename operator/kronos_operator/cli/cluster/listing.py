"""`kronos list` in a cluster: what its models have published, as the operator has written it into the objects."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kronos_operator.cli.cluster.session import connected
from kronos_operator.cli.listing import age_text, improvement_text
from kronos_operator.cli.target import Target
from kronos_operator.cli.terminal import print_json, print_table, size_text
from kronos_trainer.config import StageName

if TYPE_CHECKING:
    from kronos_operator.kube import Object

HEADERS = ("model", "phase", "published", "verdict", "improved", "age", "data to", "size")
RIGHT = frozenset({"improved", "age", "size"})


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
    artifacts: Mapping[str, Any] = status.get("artifacts") or {}
    published = artifacts.get("run") or ""
    ended: Mapping[str, Any] = next((one for one in status.get("history") or [] if one["run"] == published), {})
    weights: list[Mapping[str, Any]] = [artifacts.get(stage) or {} for stage in StageName.with_weights()]
    sizes = [one.get("bytes") for one in weights]
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
        "dataThrough": max((one["dataThrough"] for one in weights if "dataThrough" in one), default=None),
        "bytes": sum(sizes) if None not in sizes else None,
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
        one["dataThrough"] or "-",
        "-" if one["bytes"] is None else size_text(one["bytes"]),
    ]
