"""Ends the process when an orderly end hangs, on a disk that does not answer for instance; armed by `app`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from learnaed import logs

log = logs.get("watchdog")


class Watchdog:
    """A thread that does not care what the rest of the process waits for.

    Args:
        end: ends the process at once, with this exit code.
    """

    def __init__(self, end: Callable[[int], object] = os._exit) -> None:
        self._end = end
        self._over = threading.Event()
        self._armed = False

    def arm(self, seconds: float) -> None:
        """End the process after so many seconds, unless `disarm` is called before. Only the first call counts."""
        if not self._armed:
            self._armed = True
            threading.Thread(target=self._watch, args=(seconds,), name="watchdog", daemon=True).start()

    def disarm(self) -> None:
        """The end was orderly."""
        self._over.set()

    def _watch(self, seconds: float) -> None:
        if not self._over.wait(seconds):
            log.error(
                "[end-hangs] the daemon does not end by itself, the disk may hang: it is ended now; what was "
                "announced is safe",
                after=f"{seconds:g} s",
            )
            self._end(1)
