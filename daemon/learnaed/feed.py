"""What happens in this daemon, as a numbered list of events; posted by its parts, read by the status endpoint."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TypeAlias

import trio

KEPT = 1000
"""Most events that are remembered: who was away for longer has a gap."""

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


class Kind(StrEnum):
    """What an event tells of; `docs/api.md` says which data each carries."""

    STATE = "state"
    MESSAGE = "message"
    PEER = "peer"
    ROUND = "round"
    REPORT = "report"
    CUT = "cut"
    SETTLED = "settled"
    DOWNLOAD = "download"
    PAUSED = "paused"
    LIMITS = "limits"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `id` grows by one with each, also beyond a restart; `time` is Unix time in seconds."""

    id: int
    time: float
    kind: Kind
    data: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class FeedStatistics:
    """Figures for the status endpoint."""

    events: int
    """All since the start."""
    readers: int
    gaps: int
    """Events that readers missed because they were too slow, all together."""


class Feed:
    """A ring of the last 1,000 events, and a way to wait for more.

    A reader is nothing but a place in the ring: one that is slow finds later that events are gone, and costs nothing
    meanwhile. To be used in one thread.

    Args:
        clock: seconds since the epoch. Numbers begin at its milliseconds, so that those of the next start are larger.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._ring: deque[Event] = deque(maxlen=KEPT)
        self._first = self.last = int(clock() * 1000)
        """`last`: number of the newest event; before any, that of none."""
        self._news = trio.Event()
        self._readers = 0
        self._gaps = 0

    def post(self, kind: Kind, /, **data: JSON) -> None:
        """Tell everybody who reads; quick, and never fails. Numbers must be finite (see `finite`)."""
        self.last += 1
        self._ring.append(Event(self.last, self._clock(), kind, data))
        self._news.set()
        self._news = trio.Event()

    def since(self, last: int) -> list[Event]:
        """The events after number `last`, oldest first, as far as they are kept.

        All, if there has been no such number yet: the clock was set back between two starts.
        """
        missing = self.last - last if last <= self.last else len(self._ring)
        return list(islice(self._ring, max(0, len(self._ring) - missing), None))

    async def wait(self, last: int) -> None:
        """Return when there are events after number `last`."""
        while last == self.last or self.last == self._first:
            await self._news.wait()
        await trio.lowlevel.checkpoint()

    def subscribe(self, since: int | None = None) -> Reader:
        """Read what happens from now on, or after number `since`."""
        if since is None:
            return Reader(self, self.last)
        return Reader(self, since if since <= self.last else self._first)

    def statistics(self) -> FeedStatistics:
        """Figures for the status endpoint."""
        return FeedStatistics(self.last - self._first, self._readers, self._gaps)

    def _count_reader(self, more: int) -> None:
        self._readers += more

    def _count_gap(self, last: int, first: int) -> None:
        # What was before this start is no gap of this reader's making.
        self._gaps += first - max(last, self._first) - 1


class Reader:
    """An async iterator over what is new at each turn, at least one event; to be opened with `with`.

    Whoever does not come back in time has a gap: the number of the next event is more than one higher.
    """

    def __init__(self, feed: Feed, last: int) -> None:
        self._feed = feed
        self._last = last

    def __enter__(self) -> Reader:
        self._feed._count_reader(1)
        return self

    def __exit__(self, *error: object) -> None:
        self._feed._count_reader(-1)

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> list[Event]:
        await self._feed.wait(self._last)
        news = self._feed.since(self._last)
        self._feed._count_gap(self._last, news[0].id)
        self._last = news[-1].id
        return news


def finite(value: float | None) -> float | None:
    """JSON has no NaN and no infinity, which a loss may well be."""
    return value if value is not None and math.isfinite(value) else None
