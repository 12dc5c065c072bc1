"""Spans and times of day as people type them: 90s, 2h, 22:30; used by `learnae pause` and by `top`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

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


def span_option(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Callback of an option that takes a length of time: seconds. A usage error if it is none."""
    try:
        return None if value is None else seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def time_option(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """Callback of an option that takes a time of day: the next moment when it is that late. A usage error if none."""
    try:
        return None if value is None else next_time(value, datetime.now().astimezone())
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error
