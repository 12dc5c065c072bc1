"""Lets so many through at once and so many a second for long; others wait. Used by `connections` and `guard`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from learnae.bucket import Bucket

CONNECTIONS: Final = (100.0, 200.0)
"""A second, and at once: the system holds the next ones meanwhile. To turn one away costs some 0.25 ms."""
REQUESTS: Final = (25.0, 100.0)
"""A second, and at once. A dashboard asks twice a second; an answer costs some three milliseconds."""


class Pace:
    """A queue that moves on at a steady rate: who floods the endpoint waits, and the training goes on.

    Args:
        rate: how many a second.
        burst: how many at once after a rest.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._bucket = Bucket(rate, burst, trio.current_time())
        self._queue = trio.Lock()

    async def turn(self, wanted: Callable[[], bool] = lambda: True) -> bool:
        """Return when it is the caller's turn, first come, first served; False, at once, if it is not `wanted` then."""
        async with self._queue:
            if wanted():
                await trio.sleep(self._bucket.delay(1, trio.current_time()))
                self._bucket.take(1, trio.current_time())
            return wanted()
