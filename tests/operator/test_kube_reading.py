"""What of the API server's JSON becomes an object, and what never does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kronos_operator.api import BackendName
from kronos_operator.backends import BACKENDS
from kronos_operator.kube.reading import EVERYTHING, Reader

METADATA = {
    "name": "a",
    "namespace": "ns",
    "uid": "u",
    "resourceVersion": "7",
    "generation": 2,
    "generateName": "a-",
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "deletionTimestamp": None,
    "deletionGracePeriodSeconds": 30,
    "labels": {"k": "v"},
    "annotations": {"k": "ü\u202e"},
    "ownerReferences": [{"uid": "o", "controller": True}],
    "finalizers": ["f"],
}
BODY: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": METADATA,
    "spec": {"parallelism": 2, "suspend": False, "template": {"spec": {"containers": [{}]}}},
    "status": {"conditions": [{"type": "Complete", "status": "True", "more": [1.5, None]}]},
}
NOISY = BODY | {"metadata": METADATA | {"managedFields": [{"fieldsV1": {}}]}}


def page(*items: Any) -> bytes:
    return json.dumps(
        {"kind": "JobList", "metadata": {"resourceVersion": "9", "continue": "c"}, "items": items}
    ).encode()


def test_without_a_type_of_the_spec_all_is_read_but_the_bookkeeping_of_field_managers() -> None:
    config_map = {"kind": "ConfigMap", "metadata": METADATA, "data": {"a": "b"}, "immutable": True}
    assert EVERYTHING.page(page(config_map))["items"] == [config_map]
    assert EVERYTHING.page(page(NOISY)) == {"metadata": {"resourceVersion": "9", "continue": "c"}, "items": [BODY]}
    assert EVERYTHING.event(json.dumps({"type": "ADDED", "object": NOISY}).encode())["object"] == BODY


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=lambda backend: backend.kind.kind)
def test_of_a_workload_its_template_is_left_out(backend: Any) -> None:
    spec: dict[str, Any] = {"runPolicy": {"suspend": True}, "pytorchReplicaSpecs": {"Master": {"template": {}}}}
    body = BODY if backend.kind.kind == "Job" else BODY | {"spec": spec}
    (item,) = Reader(backend.kept).page(page(body))["items"]
    assert {key: value for key, value in item.items() if key != "spec"} == {
        key: value for key, value in BODY.items() if key != "spec"
    }
    assert "template" not in str(item["spec"])
    assert (backend.size(item["spec"]), backend.suspended(item["spec"])) == (
        backend.size(body["spec"]),
        backend.suspended(body["spec"]),
    )


def test_an_error_in_a_watch_keeps_what_it_tells_and_a_bookmark_its_version() -> None:
    told = {"kind": "Status", "metadata": {}, "code": 410, "reason": "Expired", "message": "too old"}
    assert (
        Reader(BACKENDS[BackendName.JOB].kept).event(json.dumps({"type": "ERROR", "object": told}).encode())["object"]
        == told
    )
    mark = {"kind": "Job", "metadata": {"resourceVersion": "8"}}
    assert EVERYTHING.event(json.dumps({"type": "BOOKMARK", "object": mark}).encode())["object"] == mark


@pytest.mark.parametrize("text", [b"", b'{"type": "ADDED", "obj', b"[]", b"<html>"])
def test_what_is_cut_off_or_no_event_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        EVERYTHING.event(text)
    assert EVERYTHING.page(b'{"items": null}') == {"items": None}
