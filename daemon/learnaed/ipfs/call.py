"""One call to an IPFS node that a thread makes: how long it may take, and whether anybody still waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import trio

from learnae.errors import NetworkError

T = TypeVar("T")

_REPORT = 1024 * 1024
_THREADS = 4


class Call:
    """Moves bytes in a thread; `run` gives it up once it is slower than allowed.

    Args:
        seconds: how long it may take whatever it moves.
        rate: bytes per second; each byte that it has moved gives it that much more time.
        limit: the most bytes per second that it moves; None: as fast as it goes.
    """

    def __init__(self, seconds: float, rate: float, limit: float | None = None) -> None:
        self.bytes = 0
        self._rate = rate
        self._limit = limit
        self._seconds = seconds
        self._reported = 0
        self._begun = time.monotonic()
        self._given_up = threading.Event()
        self._scope = trio.CancelScope()

    def move(self, size: int) -> None:
        """Say, in the thread, that bytes were sent or received; waits if it goes faster than it should.

        Raises:
            NetworkError: nobody waits for the call any more.
        """
        self.bytes += size
        if self._limit:
            self._given_up.wait(max(self._begun + self.bytes / self._limit - time.monotonic(), 0.0))
        if self._given_up.is_set():
            raise NetworkError("given up", code="ipfs-away")
        if self.bytes - self._reported >= _REPORT:
            trio.from_thread.run_sync(self._extend, self.bytes - self._reported)
            self._reported = self.bytes

    def _extend(self, size: int) -> None:
        self._scope.deadline += size / self._rate

    async def run(self, method: Callable[[Call], T], limiter: trio.CapacityLimiter) -> T:
        """What ``method(call)``, run in a thread, returns.

        A thread that cannot be ended waits out its socket's timeout, and keeps its place in the limiter until then.

        Raises:
            NetworkError: it took too long.
        """
        self._scope.deadline = trio.current_time() + self._seconds
        with self._scope:
            try:
                return await trio.to_thread.run_sync(
                    method,
                    self,
                    abandon_on_cancel=True,  # type: ignore[call-arg]  # The stubs that libp2p brings lack it.
                    limiter=limiter,
                )
            finally:
                self._given_up.set()
        raise NetworkError(f"it took too long ({self.bytes} bytes so far)", code="ipfs-away")


def new_limiter() -> trio.CapacityLimiter:
    """Calls to one node that may be on their way at once; their threads are taken from nobody else."""
    return trio.CapacityLimiter(_THREADS)
