"""Keeps traffic to a rate: bulk waits for its turn, control traffic goes first; used by transport, exchange, Bitswap.

One bucket for each direction and daemon. *Bulk* (blocks, payloads, snapshots) is let through a piece at a time, and
only while a reserve is left; connections take turns. Everything else, heartbeats first of all, may use the reserve too,
so it is on time as long as it is not itself more than the rate.

What is sent is counted before it goes: in t seconds never more than ``rate * t`` and a burst. What is received has to
be counted when it is there: readers of bulk wait until that is paid off, and the windows of streams hold peers back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from learnae.bucket import Bucket

RESERVE: Final = 0.2
"""Part of the burst that only control traffic may use."""
PER_TRANSFER: Final = 24 * 1024
"""Bytes per second that a peer is given at least, or it would take us for one that has hung."""
_BURST_SECONDS: Final = 0.5
_LEAST_BURST: Final = 32 * 1024
_MOST_BURST: Final = 4 * 1024 * 1024
_LOOK: Final = 0.5
"""Longest wait without a look whether rate or connection have changed, in seconds."""
_PIECES: Final = 4
"""Of these the burst consists, beside the reserve: the less each is, the evener the turns."""
_NEVER: Final = trio.Event()


class Throttle:
    """One direction of a daemon's traffic. Without a rate nothing waits.

    Args:
        clock: seconds; trio's by default.
    """

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self._clock = clock
        self._bucket: Bucket | None = None
        self._bulk = trio.Lock()
        self._control = trio.Lock()
        self._going = 0
        self._freed = trio.Event()
        self.waited = 0
        """Times that something had to wait."""

    @property
    def rate(self) -> int | None:
        """Bytes per second."""
        return int(self._bucket.rate) if self._bucket is not None else None

    def set_rate(self, rate: int | None) -> None:
        """Bytes per second from now on; None: as fast as it goes."""
        if rate == self.rate:
            return
        if rate is None:
            self._bucket = None
        else:
            burst = min(max(rate * _BURST_SECONDS, _LEAST_BURST), _MOST_BURST)
            self._bucket = Bucket(rate, burst, self._clock())

    @property
    def piece(self) -> int | None:
        """Most bytes of bulk at a time; None: any."""
        bucket = self._bucket
        return int(bucket.burst * (1.0 - RESERVE)) // _PIECES if bucket is not None else None

    @property
    def transfers(self) -> int | None:
        """How many transfers of bulk can go on at a time, so that each is fast enough for its peer; None: any."""
        return max(1, self.rate // PER_TRANSFER) if self.rate is not None else None

    @property
    def full(self) -> bool:
        """Whether as many transfers go on as can."""
        return self.transfers is not None and self._going >= self.transfers

    @asynccontextmanager
    async def transfer(self) -> AsyncIterator[None]:
        """Wait until one more transfer of bulk can go on, which is what happens inside."""
        while self.full:
            with trio.move_on_after(_LOOK):
                await self._freed.wait()
        self._going += 1
        try:
            yield
        finally:
            self._going -= 1
            self._freed.set()
            self._freed = trio.Event()

    async def bulk(self, size: int, gone: trio.Event = _NEVER) -> None:
        """Wait for the turn to send so many bytes of bulk, at most `piece`; `gone` ends the wait."""
        await self._pass(self._bulk, size, RESERVE, gone)

    async def control(self, size: int, gone: trio.Event = _NEVER) -> None:
        """Wait until so many bytes of anything else may be sent: not at all, unless nothing is left of the reserve."""
        await self._pass(self._control, size, 0.0, gone)

    def count(self, size: int) -> None:
        """So many bytes have come in, of whatever."""
        if self._bucket is not None:
            self._bucket.take(size, self._clock())

    async def settle(self, gone: trio.Event = _NEVER) -> None:
        """Wait for the turn to read more bulk: until what came in is paid off."""
        await self._pass(self._bulk, 0, 0.0, gone)

    async def _pass(self, line: trio.Lock, size: int, reserve: float, gone: trio.Event) -> None:
        if self.rate is None:
            return
        async with line:
            while (bucket := self._bucket) is not None and not gone.is_set():
                delay = bucket.delay(size, self._clock(), keep=reserve * bucket.burst)
                if not delay:
                    bucket.take(size, self._clock())
                    return
                self.waited += 1
                with trio.move_on_after(min(delay, _LOOK)):
                    await gone.wait()


@dataclass(frozen=True, slots=True)
class Throttles:
    """Both directions."""

    upload: Throttle = field(default_factory=Throttle)
    download: Throttle = field(default_factory=Throttle)
