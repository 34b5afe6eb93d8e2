"""Whose turn it is when places are short."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from kronos_operator.kube import Key
from kronos_operator.reconcile.turns import Claim, Kind, Standing, Turns


def claim(since: float, **changes: Any) -> Claim:
    fields = {"priority": 0, "since": since, "namespace": "ns", "shape": "s", "standing": Standing.WAITS}
    return Claim(**fields | changes)


@dataclass
class Place:
    """A cluster of a few places, and models that each need some of them, as the operator and the scheduler would go."""

    places: int
    lacks: Kind = ("nodes", "s")
    most_running: int | None = None
    patience: float = 300.0
    now: float = 0.0
    held: dict[Key, int] = field(default_factory=dict)
    needs: dict[Key, int] = field(default_factory=dict)
    claims: dict[Key, Claim] = field(default_factory=dict)
    began: dict[Key, float] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)  # of those that got all their places
    woken: set[Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.turns = Turns(self.most_running, self.woken.add)

    def add(self, name: str, needs: int = 1, **changes: Any) -> Key:
        key = Key("ns", name)
        self.needs[key] = needs
        self.claims[key] = claim(float(len(self.claims)), **changes)
        return key

    @property
    def free(self) -> int:
        return self.places - sum(self.held.values())

    def look(self, key: Key) -> None:
        """One pass of the operator."""
        if key not in self.claims:
            return
        if key in self.held:
            whole = self.held[key] == self.needs[key]
            late = self.now - self.began[key] >= self.patience
            evident = not whole and self.now - self.began[key] >= 10
            standing = Standing.HOLDS if whole else Standing.TRIES
            self.turns.put(
                key, replace(self.claims[key], standing=standing, lacks=self.lacks if evident else None), self.now
            )
            gives_back = self.turns.outranked(key) or (late and (self.held[key] or self.turns.contended(key)))
            if whole or not gives_back:
                return
            del self.held[key]
            self.claims[key] = replace(self.claims[key], gave_back=True)
            self.turns.put(key, None, self.now)
        if self.turns.ask(key, self.claims[key], self.now) is None:
            self.held[key], self.began[key] = 0, self.now

    def schedule(self, key: Key) -> None:
        """The scheduler places one pod after another, of whichever gang comes first."""
        if key in self.held and self.free and self.held[key] < self.needs[key]:
            self.held[key] += 1
            if self.held[key] == self.needs[key]:
                self.order.append(key.name)

    def end(self, key: Key) -> None:
        """The model has finished."""
        del self.held[key], self.claims[key]
        self.turns.put(key, None, self.now)

    def live(self, seconds: float, *, lasts: float = 1e9, shuffle: random.Random | None = None) -> None:
        """Time passes: the scheduler looks every second, the operator if woken or every 10 s; a gang `lasts`."""
        until = self.now + seconds
        ready: dict[Key, float] = {}
        while self.now < until:
            keys = list(self.claims)
            if shuffle is not None:
                shuffle.shuffle(keys)
            for key in keys * 2:
                self.schedule(key)
            for key in keys:
                if self.now % 10 == 0 or key in self.woken:
                    self.woken.discard(key)
                    self.look(key)
            for key in keys:
                if self.held.get(key) == self.needs[key] and self.now >= ready.setdefault(key, self.now + lasts):
                    self.end(key)
            self.now += 1


def test_while_nothing_is_short_all_start_at_once() -> None:
    world = Place(places=1000)
    for number in range(1000):
        world.look(world.add(f"m{number}"))
    assert len(world.held) == 1000


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shapes", [["s", "s"], ["s", "t"]])
def test_two_half_gangs_do_not_wait_for_each_other_for_ever(seed: int, shapes: list[str]) -> None:
    world = Place(places=2)
    for number, shape in enumerate(shapes):
        world.add(f"g{number}", needs=2, shape=shape)
    for key in world.needs:  # each gets one place
        world.look(key)
        world.schedule(key)
    assert sorted(world.held.values()) == [1, 1]
    world.live(2000, lasts=600, shuffle=random.Random(seed))
    assert sorted(world.order) == ["g0", "g1"]


@pytest.mark.parametrize("kind", [("nodes", "s"), ("quota", "ns")])
def test_200_models_on_two_places_are_served_in_order(kind: Kind) -> None:
    world = Place(places=2, lacks=kind)
    for number in range(200):
        world.add(f"m{number}")
    world.live(20_000, lasts=100)
    assert len(world.order) == 200
    # Whoever starts before anything is known to be short may be lucky; from then on age decides.
    assert world.order[2:] == [f"m{number}" for number in range(200) if f"m{number}" not in world.order[:2]]


def test_a_higher_priority_goes_first() -> None:
    world = Place(places=1)
    for name in ("running", "old", "young"):
        world.add(name)
    world.live(30)
    world.add("urgent", priority=1)
    world.live(20_000, lasts=100)
    assert world.order == ["running", "urgent", "old", "young"]


def test_a_model_that_can_never_be_placed_does_not_hold_up_those_behind_it() -> None:
    world = Place(places=2)
    world.add("giant", needs=3)
    for number in range(4):
        world.add(f"m{number}")
    world.live(5_000, lasts=100)
    assert sorted(world.order) == ["m0", "m1", "m2", "m3"]
    assert len(world.claims) == 1


def test_other_shapes_and_namespaces_are_not_held_up() -> None:
    world = Place(places=0)
    world.add("stuck")
    world.live(60)
    assert world.turns.ask(Key("ns", "behind"), claim(9.0), world.now) == 1
    assert world.turns.ask(Key("ns", "cpu"), claim(9.0, shape="t"), world.now) is None
    assert world.turns.ask(Key("other", "cpu"), claim(9.0, namespace="other", shape="t"), world.now) is None


def test_no_more_than_the_policy_allows_hold_places_and_the_others_follow_in_order() -> None:
    world = Place(places=100, most_running=3)
    for number in range(10):
        world.add(f"m{number}")
    most = 0
    while world.claims and world.now < 5000:
        world.live(1, lasts=0)
        most = max(most, len(world.held))
    assert most == 3
    assert world.order == [f"m{number}" for number in range(10)]


def test_the_place_in_the_line_is_counted_by_priority_and_age() -> None:
    world = Place(places=0)
    world.add("stuck")
    world.live(60)
    places = [world.turns.ask(Key("ns", f"m{number}"), claim(9.0 + number), world.now) for number in range(3)]
    assert places == [1, 2, 3]
    assert world.turns.ask(Key("ns", "urgent"), claim(99.0, priority=5), world.now) == 1
    assert world.turns.ask(Key("ns", "m0"), claim(9.0), world.now) == 2
    world.turns.forget(Key("ns", "urgent"), world.now)
    assert world.turns.ask(Key("ns", "m0"), claim(9.0), world.now) == 1
