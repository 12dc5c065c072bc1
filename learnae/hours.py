"""Hours of the week in local time, such as "22:00-07:00, sat, sun": when a node may train; used by `limits`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EXAMPLE: Final = "22:00-07:00, sat, sun"
_DAY: Final = 24 * 60
_QUARTER: Final = 15 * 60
_AHEAD: Final = 8
"""Days within which an hour that comes every week has come."""
_SPAN: Final = re.compile(r"(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d)")


@dataclass(frozen=True, slots=True)
class Span:
    """Minutes from `start` (0 to 1439) up to `end`, on the days that it begins; an `end` before is on the next day."""

    days: tuple[int, ...]  # 0 is Monday
    start: int
    end: int  # 1440: midnight

    def holds(self, day: int, minute: int) -> bool:
        """Whether this minute of the day of the week is in it."""
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (day in self.days and minute >= self.start) or ((day - 1) % 7 in self.days and minute < self.end)

    def __str__(self) -> str:
        words = [] if len(self.days) == 7 else [_days_text(self.days)]
        if (self.start, self.end) != (0, _DAY) or not words:
            words.append(f"{self.start // 60:02}:{self.start % 60:02}-{self.end // 60:02}:{self.end % 60:02}")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Hours:
    """Some spans of the week together. What counts is the clock on the wall: where it is put on or back by an hour,
    spans are shorter or longer by that hour."""

    spans: tuple[Span, ...]

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Parts separated by commas: `22:00-07:00`, `sat`, `mon-fri`, or `mon-fri 18:00-24:00`.

        Raises:
            ValueError: it cannot be read; says what to write.
        """
        spans = tuple(_span(part.strip().lower()) for part in text.split(","))
        return cls(spans)

    def open(self, now: float, zone: tzinfo | None = None) -> bool:
        """Whether this moment (Unix time) is in one of the spans. `zone`: None is that of this PC."""
        local = datetime.fromtimestamp(now, zone)
        return any(span.holds(local.weekday(), 60 * local.hour + local.minute) for span in self.spans)

    def opens(self, now: float, zone: tzinfo | None = None) -> float:
        """The first moment (Unix time) from now on that is in one of the spans."""
        return next((moment for moment in self._moments(now, zone) if self.open(moment, zone)), now + _AHEAD * 86_400)

    def _moments(self, now: float, zone: tzinfo | None) -> Iterator[float]:
        """When it can begin to be open: at the start of a span; or, where clocks are changed, at a quarter."""
        yield now
        today = datetime.fromtimestamp(now, zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        starts = {
            (today + timedelta(days=ahead, minutes=span.start)).timestamp()
            for ahead in range(_AHEAD + 1)
            for span in self.spans
        }
        first = int(now // _QUARTER + 1) * _QUARTER
        quarters = range(first, first + _AHEAD * 86_400, _QUARTER)
        yield from (moment for moment in sorted({*map(float, quarters), *starts}) if moment > now)

    def __str__(self) -> str:
        return ", ".join(map(str, self.spans))


def _span(part: str) -> Span:
    remedy = f"hours are written as in {EXAMPLE!r}, or 'mon-fri 18:00-24:00'; {part[:40]!r} cannot be read."
    days, times = tuple(range(7)), part
    match = re.match(r"([a-z]{3,9})(?:\s*-\s*([a-z]{3,9}))?\s*", part)
    if match is not None:
        first, last = _day(match[1], remedy), _day(match[2] or match[1], remedy)
        days = tuple((first + step) % 7 for step in range((last - first) % 7 + 1))
        times = part[match.end() :]
        if not times:
            return Span(days, 0, _DAY)
    clock = _SPAN.fullmatch(times)
    if clock is None:
        raise ValueError(remedy)
    start, end = 60 * int(clock[1]) + int(clock[2]), 60 * int(clock[3]) + int(clock[4])
    if max(int(clock[2]), int(clock[4])) > 59 or start >= _DAY or end > _DAY or start == end:
        raise ValueError(remedy)
    return Span(days, start, end)


def _day(name: str, remedy: str) -> int:
    full = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    for index, day in enumerate(full):
        if day.startswith(name):
            return index
    raise ValueError(remedy)


def _days_text(days: tuple[int, ...]) -> str:
    return DAYS[days[0]] if len(days) == 1 else f"{DAYS[days[0]]}-{DAYS[days[-1]]}"
