from __future__ import annotations

import math
import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsim.scenario import Link
from netsim.sim import links
from netsim.sim.links import Line, carry

RATE = 1e5

traffic = st.lists(st.tuples(st.floats(0, 2), st.integers(1, 200_000)), min_size=1, max_size=12)
"""Pauses, and bytes sent after each."""


def line(**changes: float) -> Line:
    return Line(Link(**{"latency": 0.0, "up": RATE, "down": RATE, **changes}), random.Random(1))  # type: ignore[arg-type]


def sent(messages: list[tuple[float, int]], source: Line, target: Line) -> list[tuple[float, float | None, int]]:
    """Carried one after the other: when each was sent, when it came, its bytes."""
    now, found = 0.0, []
    for pause, size in messages:
        now += pause
        found.append((now, carry(source, target, size, now), size))
    return found


def most(arrivals: list[tuple[float, int]]) -> float:
    """The highest rate of any stretch of arrivals: bytes of those after its first, over its time."""
    ordered = sorted(arrivals)
    worst = 0.0
    for first in range(len(ordered)):
        total = 0
        for time, size in ordered[first + 1 :]:
            total += size
            span = time - ordered[first][0]
            worst = max(worst, total / span if span > 0 else math.inf)
    return worst


@given(traffic, st.floats(0, 0.2), st.sampled_from([(1.0, 5.0), (5.0, 1.0), (1.0, 1.0)]))
def test_no_stretch_of_time_brings_more_than_either_line_can_carry(
    messages: list[tuple[float, int]], latency: float, widths: tuple[float, float]
) -> None:
    source, target = line(latency=latency, up=widths[0] * RATE), line(down=widths[1] * RATE)
    came = [(arrival, size) for _, arrival, size in sent(messages, source, target) if arrival is not None]
    assert len(came) == len(messages)
    assert most(came) <= RATE * min(widths) * (1 + 1e-6)


@given(traffic, st.integers(2, 4))
def test_many_who_send_to_one_share_its_downlink(messages: list[tuple[float, int]], count: int) -> None:
    target = line()
    came, now = [], 0.0
    for number, (pause, size) in enumerate(messages):
        now += pause
        source = Line(Link(latency=0.0, up=1e12, down=1e12), random.Random(number % count))
        arrival = carry(source, target, size, now)
        assert arrival is not None
        came.append((arrival, size))
    assert most(came) <= RATE * (1 + 1e-6)


@given(traffic, st.floats(0, 0.2), st.floats(0, 0.2))
def test_nothing_comes_sooner_than_light_and_the_narrower_line_allow(
    messages: list[tuple[float, int]], here: float, there: float
) -> None:
    source, target = line(latency=here), line(latency=there, down=RATE / 2)
    for now, arrival, size in sent(messages, source, target):
        assert arrival is not None
        assert arrival - now >= here + there + size / (RATE / 2) - 1e-9


@given(traffic, st.floats(0, 1))
def test_more_is_never_received_than_was_sent(messages: list[tuple[float, int]], loss: float) -> None:
    source, target = line(loss=loss), line()
    came = [arrival for _, arrival, _ in sent(messages, source, target) if arrival is not None]
    assert source.received == target.sent, "acknowledgements"
    assert source.sent == sum(size for _, size in messages)
    assert target.received <= source.sent
    if len(came) == len(messages):
        assert target.received == source.sent
    else:
        assert target.received < source.sent


def test_the_part_that_is_lost_is_what_the_link_says_of_either_end() -> None:
    source, target = line(loss=0.1, up=1e12), line(loss=0.2, down=1e12)
    lost = [carry(source, target, 100, 0.0) is None for _ in range(20_000)]
    assert fmean(lost) == pytest.approx(1 - 0.9 * 0.8, abs=0.01)
    assert None not in [carry(source, target, 100, 0.0, lossless=True) for _ in range(1000)]


def test_jitter_adds_its_mean_to_the_latency_and_never_subtracts() -> None:
    jittery = line(latency=0.03, jitter=0.02)
    delays = [jittery.delay() for _ in range(20_000)]
    assert min(delays) >= 0.03
    assert fmean(delays) == pytest.approx(0.05, rel=0.03)


@given(st.integers(0, 10_000_000))
def test_on_the_wire_bytes_weigh_more_and_acknowledgements_a_little(size: int) -> None:
    weight = links.framed(size)
    assert size <= weight <= 1.05 * size + links.NOISE + links.YAMUX + links.HEADERS
    assert links.framed(size + 1) > weight or size == 0
    assert 0 <= links.acknowledged(weight) <= 0.025 * weight + links.HEADERS


def test_two_behind_symmetric_nats_cannot_reach_each_other() -> None:
    nats = {nat: Link(nat=nat) for nat in ("open", "cone", "symmetric")}
    unreachable = [(a, b) for a in nats for b in nats if not links.reach(nats[a], nats[b])]
    assert unreachable == [("symmetric", "symmetric")]
