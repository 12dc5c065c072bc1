"""How long rounds are, and what keeps side activities to their part of the time; under a clock of its own."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnae.trainer.pace import MOST_SLOTS, Budget, Meter, Pace, Rate, Spent


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def after(pace: Pace, exchange: float, rounds: int = 30) -> int:
    for _ in range(rounds):
        pace.note(exchange)
    return pace.slots


def test_rounds_span_one_slot_where_the_exchange_is_short() -> None:
    assert Pace(2.0).slots == 1
    assert after(Pace(2.0), 0.0) == 1
    assert after(Pace(2.0), 0.39) == 1


@pytest.mark.parametrize(("exchange", "slots"), [(0.41, 2), (1.0, 3), (3.0, 8), (1000.0, MOST_SLOTS)])
def test_a_long_exchange_makes_long_rounds(exchange: float, slots: int) -> None:
    pace = Pace(2.0)
    assert after(pace, exchange) == slots
    assert after(pace, 0.01) == 1, "and short ones again when it is over"


@given(st.floats(0.05, 100.0), st.floats(0.0, 100.0))
def test_training_gets_four_times_the_exchange(slot: float, exchange: float) -> None:
    pace = Pace(slot)
    slots = after(pace, exchange, 100)
    assert 1 <= slots <= MOST_SLOTS
    if slots < MOST_SLOTS:
        assert slots * slot - exchange >= 4 * exchange * 0.999
    if slots > 1:
        assert 5 * exchange > (slots - 1) * slot * 0.89, "no longer than needed"


def test_what_happens_once_changes_nothing() -> None:
    pace = Pace(2.0)
    after(pace, 0.1)
    pace.note(1.0)
    assert pace.slots == 1


def test_a_minute_of_waiting_for_a_full_disk_is_soon_forgotten() -> None:
    pace = Pace(0.5)
    pace.note(60.0)
    assert pace.slots <= 5
    for _ in range(8):
        pace.note(0.02)
    assert pace.slots == 1


def test_rounds_do_not_flap_at_a_border() -> None:
    pace = Pace(2.0)
    after(pace, 0.41)
    lengths = set()
    for turn in range(40):
        pace.note(0.41 if turn % 2 else 0.385)
        lengths.add(pace.slots)
    assert lengths == {2}


@given(st.integers(0, 10**9), st.floats(0.0, 10.0))
def test_rounds_of_equal_length_end_together(first: int, exchange: float) -> None:
    pace = Pace(1.0)
    length = after(pace, exchange)
    last = pace.last_slot(first)
    assert first <= last < first + length
    assert (last + 1) % length == 0


def test_a_swarm_under_a_virtual_clock_keeps_to_the_ratio() -> None:
    """Rounds end with their last slot, then comes the exchange, part of it per slot as with others' updates."""
    clock, pace = 0.0, Pace(1.0)
    training = exchange = 0.0
    for turn in range(200):
        end = pace.last_slot(int(clock)) + 1.0
        if turn >= 50:
            training += end - clock
        cost = 0.35 + 0.05 * pace.slots
        if turn >= 50:
            exchange += cost
        clock = end + cost
        pace.note(cost)
    assert training >= 4 * exchange * 0.95
    assert pace.slots == 3


def test_the_meter_counts_the_innermost_activity() -> None:
    clock = Clock()
    meter = Meter(clock)
    clock.now += 1
    with meter.spend("exchange"):
        clock.now += 2
        with meter.spend("training"):
            clock.now += 4
        clock.now += 8
    clock.now += 16
    assert meter.take() == Spent(training=4, exchange=10, idle=17)
    with pytest.raises(ValueError), meter.spend("training"):
        clock.now += 1
        raise ValueError
    clock.now += 1
    assert meter.take() == Spent(training=1, exchange=0, idle=1)


def test_a_budget_keeps_to_its_part_of_the_time() -> None:
    clock = Clock()
    budget = Budget(0.05, random.Random(0), clock)
    assert budget.allows()
    with budget:
        clock.now += 1.0
    clock.now += 19.9
    assert not budget.allows()
    clock.now += 20.2
    assert budget.allows()


def test_rates_cover_the_last_seconds() -> None:
    clock = Clock()
    rate = Rate(clock)
    for step in range(1, 11):
        clock.now += 1.0
        rate.add(32 * (step % 5 or 5))  # the round's samples so far; rounds have five steps
    assert rate.steps_per_second() == 1.0
    assert rate.samples_per_second() == 32.0
