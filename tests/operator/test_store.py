"""The store of a watch: objects by key and label, and what a whole listing no longer names is let go."""

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


def there(store: Store) -> list[dict[str, Any]]:
    return [packed.body() for key in store if (packed := store.get(key)) is not None]


def test_an_object_is_found_as_it_was_put_and_by_what_it_is_now() -> None:
    store = Store([LABEL])
    assert names(store.put(pod("a"))) == [("new", "a", "1")]
    assert store.put(pod("a")) == []
    assert there(store) == [pod("a")]
    moved = pod("a", version="2", model="n")
    assert store.put(moved) == [Change(Key("ns", "a"), pod("a"), moved)]
    assert store.labelled("ns", LABEL, "m") == []
    assert store.labelled("ns", LABEL, "n") == there(store) == [moved]


def test_a_reader_that_changes_its_copy_changes_nothing() -> None:
    store = Store([LABEL])
    store.put(pod("a"))
    for body in (*there(store), *store.labelled("ns", LABEL, "m")):
        body["metadata"]["labels"].clear()
    assert there(store) == [pod("a")]


def test_a_namesake_is_another_object() -> None:
    store = Store()
    store.put(pod("a"))
    assert names(store.put(pod("a", version="9", uid="v"))) == [("gone", "a", "1"), ("new", "a", "9")]


def test_a_whole_listing_lets_go_what_it_does_not_name() -> None:
    store = Store([LABEL])
    for name in "abc":
        store.put(pod(name))
    assert names(store.keep({Key("ns", "b")})) == [("gone", "a", "1"), ("gone", "c", "1")]
    assert store.labelled("ns", LABEL, "m") == [pod("b")]
    assert store.remove(Key("ns", "a")) == []


def test_the_listing_of_a_namespace_lets_go_nothing_of_another() -> None:
    store = Store()
    other = pod("a")
    other["metadata"]["namespace"] = "other"
    store.put(pod("a"))
    store.put(other)
    assert [change.key for change in store.keep(set(), "ns")] == [Key("ns", "a")]
    assert there(store) == [other]
