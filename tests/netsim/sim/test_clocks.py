from __future__ import annotations

import random
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsim.scenario import Nodes
from netsim.sim.clocks import EPOCH, Clock

wrong = st.builds(Clock, st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))


@given(wrong, st.floats(0, 1e6))
def test_when_it_shows_what_it_read_is_then(clock: Clock, moment: float) -> None:
    assert clock.when(clock.read(moment)) == pytest.approx(moment, abs=1e-5)


@given(wrong, st.floats(0, 1e6), st.floats(1e-3, 1e6))
def test_it_never_goes_back_by_itself(clock: Clock, moment: float, later: float) -> None:
    assert clock.read(moment + later) > clock.read(moment)


def test_a_right_clock_is_right_and_slots_of_usual_lengths_begin_with_the_run() -> None:
    assert Clock().read(12.5) == EPOCH + 12.5
    assert all(EPOCH % seconds == 0 for seconds in (1, 5, 10, 60, 3600, 86_400))


def test_skew_is_there_at_once_and_drift_grows() -> None:
    clock = Clock(skew=2.0, drift=50.0)
    assert clock.read(0.0) - EPOCH == pytest.approx(2.0)
    assert clock.read(86_400.0) - EPOCH - 86_400.0 == pytest.approx(2.0 + 86_400 * 50e-6)


def test_somebody_who_sets_it_changes_what_it_shows_from_then_on() -> None:
    clock = Clock(skew=1.0)
    before = clock.read(100.0)
    clock.set_off(-30.0)
    assert clock.read(100.0) == before - 30.0


def test_a_groups_clocks_are_as_wrong_as_it_says() -> None:
    group, draw = Nodes(skew=2.0, drift=40.0), random.Random(5)
    clocks = [Clock.drawn(group, draw) for _ in range(4000)]
    skews = [clock.read(0.0) - EPOCH for clock in clocks]
    drifts = [(clock.read(1e6) - clock.read(0.0)) - 1e6 for clock in clocks]
    assert fmean(skews) == pytest.approx(0.0, abs=0.1)
    assert pstdev(skews) == pytest.approx(2.0, rel=0.05)
    assert pstdev(drifts) == pytest.approx(40.0, rel=0.05)
    assert Clock.drawn(Nodes(), draw).read(77.0) == EPOCH + 77.0
