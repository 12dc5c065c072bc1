"""The law of the token bucket, and that whoever keeps to it gets what there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from learnae.bucket import Bucket

steps = st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(0.0, 500.0)), max_size=60)


@given(st.floats(1.0, 1e6), st.floats(1.0, 1e6), steps)
def test_never_more_than_rate_times_time_and_a_burst(
    rate: float, burst: float, asked: list[tuple[float, float]]
) -> None:
    bucket, now, given_away = Bucket(rate, burst, 0.0), 0.0, 0.0
    for pause, amount in asked:
        now += pause
        wanted = min(amount, burst)
        if not bucket.delay(wanted, now):
            bucket.take(wanted, now)
            given_away += wanted
        assert given_away <= (rate * now + burst) * (1 + 1e-9) + 1e-3


@given(st.floats(1.0, 1e6), st.floats(1.0, 1e6), st.lists(st.floats(1.0, 1e6), min_size=1, max_size=60))
def test_whoever_waits_for_the_delay_gets_the_whole_rate(rate: float, burst: float, asked: list[float]) -> None:
    bucket, now, given_away = Bucket(rate, burst, 0.0), 0.0, 0.0
    for amount in asked:
        wanted = min(amount, burst)
        now += bucket.delay(wanted, now)
        assert bucket.delay(wanted, now + 1e-6 * burst / rate) == 0.0, "the delay was long enough"
        bucket.take(wanted, now)
        given_away += wanted
    assert given_away >= rate * now - 1e-6 * burst * len(asked) - 1e-3, "and no longer than needed"


def test_what_is_to_be_kept_is_kept() -> None:
    bucket = Bucket(10.0, 100.0, 0.0)
    assert bucket.delay(80.0, 0.0, keep=20.0) == 0.0
    bucket.take(80.0, 0.0)
    assert bucket.delay(1.0, 0.0, keep=20.0) == 0.1
    assert bucket.delay(20.0, 0.0) == 0.0, "for somebody else"


def test_too_large_an_amount_is_owed() -> None:
    bucket = Bucket(10.0, 100.0, 0.0)
    bucket.take(1.0, 0.0)
    assert bucket.delay(150.0, 0.0) == 0.1, "once it is full"
    bucket.take(150.0, 0.1)
    assert bucket.level(0.1) == -50.0
    assert bucket.delay(0.0, 0.1) == 5.0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = Bucket(10.0, 100.0, 1000.0)
    bucket.take(100.0, 1000.0)
    assert bucket.level(0.0) == 0.0
    assert bucket.level(1.0) == 10.0
