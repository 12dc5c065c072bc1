"""Spans and times of day as people type them: 90s, 2h, 22:30; used by `learnae pause` and by `top`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import click

LONGEST = 366 * 86400.0
"""Seconds. A pause beyond a year is a typing error; without a limit it lasts until `resume` anyway."""
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(min|[smhd])")


def seconds(text: str) -> float:
    """ "90s", "30m", "2h", "1d" or "1h30m" in seconds.

    Raises:
        ValueError: it is no such thing, shorter than a second, or longer than a year; says what to write.
    """
    words = text.strip().lower()
    total = sum(float(count) * _UNITS[unit] for count, unit in _PART.findall(words))
    if not words or _PART.sub("", words).strip():
        raise ValueError(f"{text[:40]!r} is no length of time. Write 90s, 30m, 2h, 1d or 1h30m.")
    if not 1 <= total <= LONGEST:
        raise ValueError(f"{text[:40]!r} is not between a second and a year. Write 90s, 30m, 2h, 1d or 1h30m.")
    return total


def next_time(text: str, now: datetime) -> datetime:
    """The next moment after `now` at which the clock on the wall shows "HH:MM".

    Raises:
        ValueError: it is no time of day; says what to write.
    """
    try:
        asked = datetime.strptime(text.strip(), "%H:%M").time()
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no time of day. Write HH:MM, 07:30 for instance.") from None
    # Naive local time on purpose: a night in which the clocks change is longer or shorter, the hour is what counts.
    local = now.astimezone().replace(tzinfo=None)
    at = datetime.combine(local.date(), asked)
    if at <= local:
        at += timedelta(days=1)
    return at.astimezone()


class Span(click.ParamType):
    """A length of time on the command line, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds; a usage error if it is none."""
        if isinstance(value, float):
            return value
        try:
            return seconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class TimeOfDay(click.ParamType):
    """A time of day on the command line, as the next moment when it is that late."""

    name = "HH:MM"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment; a usage error if it is none."""
        if isinstance(value, datetime):
            return value
        try:
            return next_time(value, datetime.now().astimezone())
        except ValueError as error:
            self.fail(str(error), param, ctx)
