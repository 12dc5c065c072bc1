"""Why a node does not train, and how load tells that nobody is at work."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnae.hours import Hours
from learnae.limits import Limits
from learnaed.limits import Cause, Conditions, Hold, verdict
from learnaed.limits.quiet import BUSY, Quiet

NOW = 1_795_420_800.0  # 2026-11-23 08:00 UTC, a Monday
UTC = ZoneInfo("UTC")


def causes(limits: Limits, conditions: Conditions | None = None, **holds: Hold) -> list[str]:
    return [reason.cause.value for reason in verdict(limits, conditions or Conditions(), NOW, zone=UTC, **holds)]


def test_without_limits_nothing_keeps_it() -> None:
    busy = Conditions(idle=0.0, disk_used=10**12)
    assert causes(Limits(), busy) == []


@pytest.mark.parametrize(
    ("limits", "conditions", "cause"),
    [
        (Limits(hours=Hours.parse("22:00-07:00")), Conditions(), "hours"),
        (Limits(hours=Hours.parse("mon")), Conditions(), None),
        (Limits(), Conditions(on_battery=True), "battery"),
        (Limits(), Conditions(on_battery=False), None),
        (Limits(on_battery="run"), Conditions(on_battery=True), None),
        (Limits(idle_after=600), Conditions(idle=599.0), "busy"),
        (Limits(idle_after=600), Conditions(idle=600.0), None),
        (Limits(idle_after=600), Conditions(idle=None), None),
        (Limits(disk=10**9), Conditions(disk_used=10**9 + 1), "disk"),
        (Limits(disk=10**9), Conditions(disk_used=10**9), None),
    ],
)
def test_each_limit(limits: Limits, conditions: Conditions, cause: str | None) -> None:
    assert causes(limits, conditions) == ([cause] if cause else [])


def test_all_reasons_are_given_with_their_ends() -> None:
    limits = Limits(hours=Hours.parse("22:00-07:00"), idle_after=600)
    conditions = Conditions(idle=100.0, idle_by="load", on_battery=True)
    found = verdict(limits, conditions, NOW, user=Hold("paused", NOW + 5), memory=Hold("full", NOW), zone=UTC)
    assert [(reason.cause, reason.until) for reason in found] == [
        (Cause.USER, NOW + 5),
        (Cause.HOURS, NOW + 14 * 3600),
        (Cause.BATTERY, None),
        (Cause.BUSY, NOW + 500),
    ]
    assert "other programs" in found[-1].text and "10m" in found[-1].text
    assert found[0].as_json() == {"reason": "user", "text": "paused", "until": NOW + 5}


@given(st.floats(0, 1e4), st.floats(1, 1e4))
def test_a_busy_pc_says_when_it_will_not_be(idle: float, after: float) -> None:
    found = verdict(Limits(idle_after=after), Conditions(idle=idle), NOW)
    assert bool(found) == (idle < after)
    for reason in found:
        assert reason.until is not None and reason.until > NOW


def test_quiet_begins_when_others_let_the_processor_rest() -> None:
    quiet, used = Quiet(), 0.0
    assert quiet.look(0.0, used, 4) == 0.0
    for second in range(5, 65, 5):
        used += 5 * 4 * (0.9 if second <= 30 else 0.02)
        seconds = quiet.look(float(second), used, 4)
        assert seconds == max(0.0, second - 30.0) if second >= 40 or second <= 30 else True
    used += 10 * 4 * 2 * BUSY
    assert quiet.look(70.0, used, 4) == 0.0
    assert quiet.look(71.0, used, 4) == 0.0


def test_a_moment_of_load_is_nobody_at_work() -> None:
    quiet, used = Quiet(), 0.0
    seconds = quiet.look(0.0, used, 4)
    for second in range(5, 305, 5):
        used += 2.0 if second % 10 else 0.1  # a burst of half a second on all four cores, every ten seconds
        seconds = quiet.look(float(second), used, 4)
    assert seconds == 300.0
