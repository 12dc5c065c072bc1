"""A fault that a sweep of the heartbeat's period brought to light: messages waited for seconds on an empty line."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from netsim.scenario import Link
from netsim.sim.links import Line

RATE = 1000.0


def line() -> Line:
    return Line(Link(up=RATE, down=RATE), random.Random(0))


def test_what_is_booked_for_later_does_not_hold_up_what_is_sent_now() -> None:
    one = line()
    assert one.send(10.0, 100) == 10.1
    assert one.send(5.0, 100) < 5.3, "not after 10.1"


def test_a_line_that_is_busy_makes_wait() -> None:
    one = line()
    assert [round(one.send(0.0, 500), 6) for _ in range(3)] == [0.5, 1.0, 1.5]
    assert round(one.send(1.0, 500), 6) == 2.0
    assert round(one.send(9.0, 500), 6) == 9.5
    assert [round(one.receive(20.0, 500), 6) for _ in range(3)] == [20.0, 20.5, 21.0]


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 1000)), min_size=1, max_size=40))
def test_nothing_waits_longer_than_all_that_was_ever_sent_takes(messages: list[tuple[float, int]]) -> None:
    one = line()
    total = 0
    for time, size in messages:
        total += size
        took = one.send(time, size) - time
        assert size / RATE - 1e-9 <= took <= total / RATE + 1e-9
