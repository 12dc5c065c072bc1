"""The history and what is posted when a status changes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import trio

from learnaed.feed import Feed, Kind
from learnaed.history import TIERS, History, Row
from learnaed.watch import changes, watch
from tests.face.fakes import fake_status

HOUR, DAY = 3600.0, 86400.0


def row(time: float) -> Row:
    return Row.of(fake_status(), time)


def grown(seconds: float) -> History:
    """Fed every five seconds on the last day, every five minutes before."""
    history = History()
    coarse = max(0, int(seconds - DAY))
    for moment in (*range(300, coarse + 1, 300), *range(coarse + 5, int(seconds) + 1, 5)):
        history.add(row(float(moment)))
    return history


def test_a_row_says_what_the_status_says() -> None:
    assert row(5.0004) == Row(5.0, 123, 0.25, 0.9, None, 21, 1, 5000, 7000, 55.5, 0.5, "training")


def test_a_node_that_just_starts_has_a_row_too() -> None:
    assert Row.of({"state": "starting", "trainer": None}, 1.0).loss is None


@pytest.fixture(scope="module")
def long() -> list[Row]:
    return grown(20 * DAY).rows()


def test_recent_rows_are_finer(long: list[Row]) -> None:
    rows = long
    steps = [round(b.time - a.time) for a, b in pairwise(rows)]
    assert steps == sorted(steps, reverse=True)
    assert set(steps) <= {5, 60, 600} | set(range(5, 600, 5))
    assert [steps.count(5), steps.count(60), steps.count(600)] == pytest.approx([359, 690, 1944], abs=3)
    assert rows[-1].time == 20 * DAY and rows[0].time == pytest.approx(6 * DAY, abs=1200)


def test_it_is_bounded(long: list[Row]) -> None:
    assert len(long) <= sum(most for _, most in TIERS) == 3096


def test_since() -> None:
    history = grown(HOUR)
    assert [row.time for row in history.rows(HOUR - 12)] == [HOUR - 10, HOUR - 5, HOUR]
    assert history.rows(HOUR) == []


def test_looks_that_come_early_or_late_leave_no_holes() -> None:
    history = History()
    for number in range(1000):
        history.add(row(5.0 * number + (0.9 if number % 2 else -0.9)))
    assert len(history.rows(5.0 * 700)) == 299


def test_a_clock_that_was_set_back_takes_the_future_with_it() -> None:
    history = grown(2 * HOUR)
    history.add(row(HOUR))
    rows = history.rows()
    assert rows[-1].time == HOUR
    assert [row.time for row in rows] == sorted({row.time for row in rows})


STATUS = fake_status()


@pytest.mark.parametrize(
    ("change", "kind", "data"),
    [
        ({"state": "paused"}, Kind.STATE, {"state": "paused", "before": "training"}),
        ({"paused": {"reasons": ["x"]}}, Kind.PAUSED, {"reasons": ["x"]}),
        ({"limits": {"upload": 5}}, Kind.LIMITS, {"limits": {"upload": 5}}),
        ({"cuts": STATUS["cuts"] | {"newest": {"index": 100, "cid": "n"}}}, Kind.CUT, {"index": 100, "cid": "n"}),
        ({"cuts": STATUS["cuts"] | {"settled": {"index": 99, "cid": "s"}}}, Kind.SETTLED, {"index": 99, "cid": "s"}),
        ({"cuts": {"settled": None, "newest": None}}, None, None),
    ],
)
def test_changes(change: dict[str, Any], kind: Kind | None, data: Any) -> None:
    assert changes(STATUS, STATUS) == []
    assert changes(STATUS, STATUS | change) == ([(kind, data)] if kind else [])


def test_a_download_is_told_to_its_end() -> None:
    fetching = STATUS["snapshots"]["fetching"]
    quiet = {"snapshots": {"fetching": None}}
    further = {"snapshots": {"fetching": fetching | {"done": 50_000}}}
    other = {"snapshots": {"fetching": fetching | {"cid": "other"}}}
    start = {"snapshots": {"fetching": fetching}}
    assert changes(quiet, start) == [(Kind.DOWNLOAD, fetching | {"ended": False})]
    assert changes(start, further) == [(Kind.DOWNLOAD, fetching | {"done": 50_000, "ended": False})]
    assert changes(start, quiet) == [(Kind.DOWNLOAD, fetching | {"ended": True})]
    assert [data["ended"] for _, data in changes(start, other)] == [True, False]


async def test_the_watch(autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learnaed.watch.time.time", lambda: 1e9 + trio.current_time())
    feed, history = Feed(), History()
    began = trio.current_time()

    def status() -> dict[str, Any]:
        return fake_status(state="training" if trio.current_time() - began < 30 else "paused")

    with trio.move_on_after(59.9):
        await watch(status, feed, history)
    assert [(event.kind, event.data["state"]) for event in feed.since(0)] == [(Kind.STATE, "paused")]
    rows = history.rows()
    assert [round(b.time - a.time) for a, b in pairwise(rows)] == [5] * 11
    assert replace(rows[-1], time=0.0, state="") == replace(rows[0], time=0.0, state="")
