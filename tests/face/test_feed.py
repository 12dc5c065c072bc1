"""The feed: numbers, bounds, and readers that are slow, gone or cancelled."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from learnaed.feed import KEPT, Event, Feed, Kind, finite


def clock() -> float:
    return 1000.0


def post(feed: Feed, count: int) -> None:
    for number in range(count):
        feed.post(Kind.MESSAGE, level="info", text=str(number))


def texts(events: list[Event]) -> list[object]:
    return [event.data["text"] for event in events]


def test_events_are_numbered_and_dated() -> None:
    feed = Feed(clock)
    feed.post(Kind.STATE, state="training", before="joining")
    first = Event(1_000_001, 1000.0, Kind.STATE, {"state": "training", "before": "joining"})
    assert feed.since(0) == feed.since(1_000_000) == [first]
    assert feed.since(1_000_001) == []
    assert feed.statistics().events == 1


def test_numbers_go_on_after_a_restart() -> None:
    before, after = Feed(lambda: 1000.0), Feed(lambda: 1003.0)
    post(before, 20)
    assert before.last < after.last
    post(after, 2)
    assert len(after.since(before.last)) == 2


def test_a_number_of_the_future_gives_all() -> None:
    feed = Feed(clock)
    post(feed, 3)
    assert texts(feed.since(2**50)) == ["0", "1", "2"]


@settings(max_examples=30)
@given(st.integers(0, 2 * KEPT), st.integers(0, 3 * KEPT))
def test_since_gives_the_last_of_those_that_are_kept(posted: int, known: int) -> None:
    feed = Feed(clock)
    post(feed, posted)
    expected = [event for event in feed.since(0) if event.id > 1_000_000 + known]
    if known <= posted:
        assert feed.since(1_000_000 + known) == expected
    assert len(feed.since(0)) == min(posted, KEPT)
    assert [event.id for event in feed.since(0)] == list(range(feed.last - min(posted, KEPT) + 1, feed.last + 1))


async def test_a_reader_hears_what_comes(autojump_clock: trio.testing.MockClock) -> None:
    feed = Feed(clock)
    post(feed, 2)
    heard: list[object] = []

    async def read() -> None:
        with feed.subscribe() as reader:
            async for events in reader:
                heard.extend(texts(events))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.sleep(1)
        assert heard == [] and feed.statistics().readers == 1
        feed.post(Kind.MESSAGE, text="a")
        feed.post(Kind.MESSAGE, text="b")
        await trio.sleep(1)
        feed.post(Kind.MESSAGE, text="c")
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert heard == ["a", "b", "c"]
    assert feed.statistics().readers == 0


@pytest.mark.parametrize(("since", "count"), [(None, 0), (0, 2), (1_000_001, 1), (2**50, 2)])
async def test_a_reader_begins_where_it_wants(
    since: int | None, count: int, autojump_clock: trio.testing.MockClock
) -> None:
    feed = Feed(clock)
    post(feed, 2)
    found: list[Event] = []
    with feed.subscribe(since) as reader, trio.move_on_after(1):
        found = await anext(reader)
    assert len(found) == count


async def test_a_wait_that_is_cut_short_loses_nothing(autojump_clock: trio.testing.MockClock) -> None:
    feed = Feed(clock)
    with feed.subscribe() as reader:
        with trio.move_on_after(1):
            await anext(reader)
        feed.post(Kind.MESSAGE, text="late")
        assert texts(await anext(reader)) == ["late"]


async def test_a_slow_reader_has_a_gap_and_costs_no_memory() -> None:
    feed = Feed(clock)
    with feed.subscribe() as reader:
        post(feed, 1)
        assert len(await anext(reader)) == 1
        post(feed, KEPT + 500)
        events = await anext(reader)
        assert (len(events), events[0].id) == (KEPT, 1_000_000 + 502)
        assert feed.statistics().gaps == 500
        assert vars(reader).keys() == {"_feed", "_last"}


async def test_nothing_happens_for_a_list_that_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    feed = Feed(clock)
    with trio.move_on_after(5) as scope:
        await feed.wait(0)
    assert scope.cancelled_caught


def test_what_json_has_no_word_for() -> None:
    assert [finite(value) for value in (1.5, None, float("nan"), float("inf"))] == [1.5, None, None, None]
