from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnaed.ipfs.pinner import (
    FIRST_RETRY,
    HOPELESS,
    LAST_RETRY,
    REFRESH,
    Connect,
    Job,
    Pin,
    Pinner,
    State,
    Unpin,
    Wait,
)

A, B, C, D = (bytes([n]) * 36 for n in range(4))


@dataclass
class Bench:
    """A pinner, a simulated IPFS node, the book, and a clock."""

    pins: dict[bytes, bool] = field(default_factory=dict)
    book: dict[bytes, bool] = field(default_factory=dict)
    away: bool = False
    absent: bool = False
    refused: set[bytes] = field(default_factory=set)
    now: float = 0.0
    jobs: list[Job] = field(default_factory=list)
    said: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pinner = Pinner(lambda level, text: self.said.append((level, text)), seed=1)

    def step(self) -> Wait | None:
        """Do one thing."""
        job = self.pinner.next(self.now)
        if isinstance(job, Wait):
            return job
        self.jobs.append(job)
        if isinstance(job, Connect) and self.absent:
            self.pinner.absent(self.now)
        elif self.away or (not isinstance(job, Connect) and job.root in self.refused):
            self.pinner.failed(job, "it is away" if self.away else "it refuses", self.now)
        elif isinstance(job, Connect):
            self.pinner.connected("the node", self.book)
        elif isinstance(job, Pin):
            own = job.root not in self.pins or job.root in self.book
            self.pins[job.root] = job.recursive
            if own:
                self.book[job.root] = job.recursive
            self.pinner.pinned(job, own)
        else:
            assert job.root in self.book
            self.pins.pop(job.root, None)
            del self.book[job.root]
            self.pinner.unpinned(job)
        return None

    def settle(self) -> Wait:
        """Do all there is to do now."""
        for _ in range(100):
            if wait := self.step():
                return wait
        raise AssertionError("it never rests")

    def run_until(self, end: float) -> None:
        while (wait := self.settle()).until <= end:
            self.now = wait.until
        self.now = end


def test_before_anything_is_wanted_nothing_is_done() -> None:
    bench = Bench(book={A: True}, pins={A: True})
    assert bench.settle().until == float("inf")
    assert bench.jobs == []
    assert bench.pinner.queue == 0


def test_new_pins_are_made_before_old_ones_are_removed() -> None:
    bench = Bench()
    bench.pinner.want([B, A], direct=[D, A])
    bench.settle()
    assert bench.jobs == [Connect(), Pin(B, True), Pin(A, True), Pin(D, False)]
    bench.pinner.want([C, B])
    assert bench.pinner.queue == 3
    bench.settle()
    assert bench.jobs[4:] == [Pin(C, True), Unpin(A), Unpin(D)]
    assert bench.pins == {B: True, C: True}
    assert (bench.pinner.state, bench.pinner.own, bench.pinner.queue) == (State.OK, 2, 0)
    assert [level for level, _ in bench.said] == ["info"]


def test_what_the_user_pinned_stays() -> None:
    bench = Bench(pins={A: True, D: True})
    bench.pinner.want([A, B])
    bench.settle()
    bench.pinner.want([C])
    bench.settle()
    assert bench.pins == {A: True, C: True, D: True}
    assert bench.pinner.own == 1


def test_after_a_restart_only_our_own_old_pins_go() -> None:
    bench = Bench(pins={A: True, B: True, D: True}, book={A: True, B: True})
    bench.pinner.want([B, C])
    bench.settle()
    assert bench.jobs == [Connect(), Pin(B, True), Pin(C, True), Unpin(A)]
    assert bench.pins == {B: True, C: True, D: True}


def test_a_node_that_is_away_is_tried_ever_more_seldom_and_mentioned_once() -> None:
    bench = Bench(away=True)
    bench.pinner.want([A])
    waits = []
    for n in range(20):
        bench.settle()
        assert bench.pinner.state is State.FAILING
        waits.append(bench.settle().until - bench.now)
        bound = min(LAST_RETRY, FIRST_RETRY * 2.0**n)
        assert bound / 2 <= waits[-1] <= bound
        bench.now += waits[-1]
    assert len(set(waits[-5:])) == 5  # jitter
    assert [level for level, _ in bench.said] == ["warning"]
    assert (bench.pinner.why, bench.pinner.failures, bench.pinner.queue) == ("it is away", 20, 1)

    bench.away = False
    bench.settle()
    assert (bench.pinner.state, bench.pinner.why, bench.pinner.failures) == (State.OK, "", 0)
    assert [level for level, _ in bench.said] == ["warning", "info", "info"]
    assert "back" in bench.said[-1][1]
    assert bench.pins == {A: True}


def test_new_wishes_do_not_hurry_a_node_that_is_away() -> None:
    bench = Bench(away=True)
    bench.pinner.want([A])
    due = bench.settle().until
    bench.pinner.want([B])
    assert bench.settle().until == due
    assert len(bench.jobs) == 1


def test_a_root_that_fails_lets_the_others_pass() -> None:
    bench = Bench(refused={A}, pins={D: True}, book={D: True})
    bench.pinner.want([A, B, C])
    bench.run_until(60.0)
    assert bench.pins == {B: True, C: True, D: True}, "the old pin stays as long as the new ones are not all there"
    assert 3 <= bench.pinner.failures <= 6
    assert [level for level, _ in bench.said] == ["info", "warning"]
    bench.refused.clear()
    bench.run_until(1000.0)
    assert bench.pins == {A: True, B: True, C: True}
    assert bench.pinner.failures == 0


def test_a_root_that_never_comes_does_not_keep_old_pins_for_ever() -> None:
    bench = Bench(refused={A}, pins={C: True, D: True}, book={C: True, D: True})
    bench.pinner.want([A, B])
    bench.run_until(10_000.0)
    assert bench.pins == {B: True}
    assert bench.pinner.failures > HOPELESS


def test_pins_that_somebody_removed_are_made_again_when_it_looks_again() -> None:
    bench = Bench()
    bench.pinner.want([A])
    bench.settle()
    bench.pins.clear()
    bench.run_until(REFRESH - 1)
    assert bench.pins == {}
    bench.run_until(REFRESH + 1)
    assert bench.pins == {A: True}


def test_where_no_node_is_named_and_none_found_it_keeps_quiet() -> None:
    bench = Bench(absent=True)
    bench.pinner.want([A])
    bench.run_until(1000.0)
    assert bench.pinner.state is State.ABSENT
    assert bench.said == []
    assert 15 <= len(bench.jobs) <= 40
    bench.absent = False
    bench.run_until(1100.0)
    assert bench.pins == {A: True}
    bench.absent = True
    bench.run_until(3000.0)
    assert [level for level, _ in bench.said] == ["info", "warning"]


@pytest.mark.parametrize("seed", [1, 2])
def test_retries_follow_from_the_seed(seed: int) -> None:
    def times() -> list[float]:
        pinner, now, times = Pinner(lambda *_: None, seed), 0.0, []
        pinner.want([A])
        for _ in range(10):
            job = pinner.next(now)
            assert isinstance(job, Connect)
            pinner.failed(job, "away", now)
            wait = pinner.next(now)
            assert isinstance(wait, Wait)
            now = wait.until
            times.append(now)
        return times

    assert times() == times()


@given(st.integers(0, 10_000))
def test_whatever_happens_the_wanted_pins_come_and_the_users_stay(seed: int) -> None:
    choose = random.Random(seed)
    roots = [bytes([n]) * 36 for n in range(8)]
    users = set(choose.sample(roots, 2))
    bench = Bench(pins=dict.fromkeys(users, True))
    wanted: list[bytes] = []
    for _ in range(30):
        match choose.randrange(6):
            case 0 | 1:
                wanted = choose.sample(roots, choose.randrange(5))
                bench.pinner.want(wanted)
            case 2:
                bench.away = choose.random() < 0.5
            case 3:
                bench.absent = choose.random() < 0.3
            case 4:  # The daemon starts anew; only the book remains.
                bench.__post_init__()
                bench.pinner.want(wanted)
            case 5:
                bench.refused = set(choose.sample(roots, choose.randrange(3)))
        bench.run_until(bench.now + choose.choice([0.0, 1.0, 100.0, 1000.0]))
        assert users <= bench.pins.keys()
        assert not users & bench.book.keys()
        assert bench.pins.keys() == users | bench.book.keys(), "nothing of ours is forgotten"
    bench.away = bench.absent = False
    bench.refused.clear()
    bench.pinner.want(wanted)
    bench.run_until(bench.now + 2 * LAST_RETRY)
    assert bench.pins.keys() == users | set(wanted)
