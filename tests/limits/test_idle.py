"""What the ways to tell idleness make of the system's answers."""

from __future__ import annotations

import sys

import pytest

from learnaed.limits import idle


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("IdleHint=no\nIdleSinceHint=1000000000\n", 0.0),
        ("IdleHint=yes\nIdleSinceHint=1000000000\n", 500.0),
        ("IdleHint=yes\nIdleSinceHint=0\n", None),
        ("IdleHint=yes\n", None),
        ("IdleHint=yes\nIdleSinceHint=never\n", None),
        ("IdleHint=yes\nIdleSinceHint=9000000000\n", 0.0),
        ("", None),
        (None, None),
    ],
)
def test_logind(text: str | None, seconds: float | None) -> None:
    assert idle.read_logind(text, 1500.0) == seconds


def test_whoever_is_there_counts() -> None:
    assert idle.idle_seconds([lambda: 500.0, lambda: None, lambda: 3.0]) == 3.0
    assert idle.idle_seconds([lambda: None]) is None
    assert idle.idle_seconds([]) is None


def test_the_ways_of_this_system_can_be_asked() -> None:
    ways = idle.probes()
    assert ways
    seconds = idle.idle_seconds(ways)
    assert seconds is None or seconds >= 0


@pytest.mark.skipif(sys.platform == "win32", reason="there it works")
def test_windows_calls_are_not_made_elsewhere() -> None:
    assert idle._windows() is None
