from __future__ import annotations

import math
import random
from itertools import pairwise
from statistics import fmean, median

import pytest

from netsim.scenario import Uptime
from netsim.sim.churn import DAY, Presence

MANY = 20_000


def stays(uptime: Uptime, seed: int = 1) -> list[float]:
    presence = Presence(uptime, random.Random(seed))
    return [presence.stay(0.0) for _ in range(MANY)]


def test_who_is_always_there_never_leaves() -> None:
    assert set(stays(Uptime())) == {math.inf}


def test_exponential_stays_have_their_mean_and_no_memory() -> None:
    found = stays(Uptime(kind="exponential", mean=3600.0))
    assert fmean(found) == pytest.approx(3600.0, rel=0.03)
    longer = [stay - 3600.0 for stay in found if stay > 3600.0]
    assert len(longer) / MANY == pytest.approx(math.exp(-1), rel=0.03)
    assert fmean(longer) == pytest.approx(3600.0, rel=0.05)


def test_weibull_stays_have_their_mean_and_most_are_short() -> None:
    found = stays(Uptime(kind="weibull", mean=3600.0, shape=0.6))
    assert fmean(found) == pytest.approx(3600.0, rel=0.05)
    scale = 3600.0 / math.gamma(1 + 1 / 0.6)
    assert median(found) == pytest.approx(scale * math.log(2) ** (1 / 0.6), rel=0.05)
    assert median(found) < 3600.0 / 2


def test_absences_goodbyes_and_replacements_come_as_often_as_the_scenario_says() -> None:
    presence = Presence(Uptime(kind="weibull", away=600.0, goodbye=0.3, replaced=0.2), random.Random(2))
    assert fmean(presence.away(0.0) for _ in range(MANY)) == pytest.approx(600.0, rel=0.03)
    assert fmean(presence.announced() for _ in range(MANY)) == pytest.approx(0.3, abs=0.015)
    assert fmean(presence.replaced() for _ in range(MANY)) == pytest.approx(0.2, abs=0.015)
    assert Presence(Uptime(kind="exponential", away=0.0), random.Random(2)).away(0.0) == 0.0


def day(seed: int) -> list[tuple[float, float]]:
    """When one PC came and went in ten days."""
    presence = Presence(Uptime(kind="diurnal"), random.Random(seed))
    now = presence.away(0.0) if presence.absent_at_first() else 0.0
    found = []
    while now < 10 * DAY:
        left = now + presence.stay(now)
        found.append((now, left))
        now = left + presence.away(left)
    return found


def test_ordinary_pcs_keep_office_hours_or_a_night_and_do_so_every_day() -> None:
    weeks = [day(seed) for seed in range(200)]
    assert all(come < left for week in weeks for come, left in week)
    assert all(left < back for week in weeks for (_, left), (back, _) in pairwise(week))
    # The first stay of a night may have begun the day before.
    hours = [(left - come) / 3600 for week in weeks for come, left in week[1:]]
    assert fmean(hours) == pytest.approx(9.0, abs=0.4)
    assert all(9 <= len(week) <= 12 for week in weeks)
    at_noon = fmean(any(come <= 3.5 * DAY < left for come, left in week) for week in weeks)
    at_three = fmean(any(come <= 3.125 * DAY < left for come, left in week) for week in weeks)
    at_eight = fmean(any(come <= (3 + 20 / 24) * DAY < left for come, left in week) for week in weeks)
    assert 0.35 < at_noon < 0.65, "offices"
    assert 0.35 < at_three < 0.65, "nights"
    assert at_eight < 0.15, "in the evening hardly anybody"


@pytest.mark.parametrize("kind", ["exponential", "weibull", "diurnal"])
def test_a_trace_is_its_seeds(kind: str) -> None:
    def trace(seed: int) -> list[float]:
        presence = Presence(Uptime(kind=kind), random.Random(seed))  # type: ignore[arg-type]
        return [figure for _ in range(5) for figure in (presence.stay(0.0), presence.away(0.0))]

    assert trace(1) == trace(1)
    assert trace(1) != trace(2)
