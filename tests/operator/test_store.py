"""The store of a watch: found by key and label, and told by whole listings what has gone."""

from __future__ import annotations

from typing import Any

from kronos_operator.kube import Change, Key, Store

LABEL = "kronos.io/model"


def pod(name: str, version: str = "1", uid: str = "u", model: str = "m") -> dict[str, Any]:
    metadata = {"namespace": "ns", "name": name, "uid": uid, "resourceVersion": version, "labels": {LABEL: model}}
    return {"metadata": metadata, "status": {"ü": [1, None]}}


def names(changes: list[Change]) -> list[tuple[str, str, str]]:
    return [
        ("gone" if one.new is None else "changed" if one.old else "new", one.key.name, version(one)) for one in changes
    ]


def version(change: Change) -> str:
    return str(change.last["metadata"]["resourceVersion"])


def test_an_object_is_found_as_it_was_put_and_by_what_it_is_now() -> None:
    store = Store([LABEL])
    assert names(store.put(pod("a"))) == [("new", "a", "1")]
    assert store.put(pod("a")) == []
    assert list(store) == [pod("a")]
    moved = pod("a", version="2", model="n")
    assert store.put(moved) == [Change(Key("ns", "a"), pod("a"), moved)]
    assert store.labelled("ns", LABEL, "m") == []
    assert store.labelled("ns", LABEL, "n") == list(store) == [moved]


def test_a_reader_that_changes_its_copy_changes_nothing() -> None:
    store = Store([LABEL])
    store.put(pod("a"))
    for body in (*store.labelled("ns", LABEL, "m"), *store):
        body["metadata"]["labels"].clear()
    assert list(store) == [pod("a")]


def test_a_namesake_is_another_object() -> None:
    store = Store()
    store.put(pod("a"))
    assert names(store.put(pod("a", version="9", uid="v"))) == [("gone", "a", "1"), ("new", "a", "9")]


def test_a_whole_listing_tells_what_has_gone() -> None:
    store = Store([LABEL])
    for name in "abc":
        store.put(pod(name))
    assert not store.synced
    assert names(store.keep({Key("ns", "b")})) == [("gone", "a", "1"), ("gone", "c", "1")]
    assert store.synced
    assert store.labelled("ns", LABEL, "m") == [pod("b")]
    assert store.remove(Key("ns", "a")) == []
