"""`Seeker`: looks for a daemon that has gone, in a thread of its own; used by `Session`."""

from __future__ import annotations

import logging
import threading

from learnae.errors import LearnaeError
from learnae.loop.daemon import LocalDaemon
from learnae.loop.link import Link

SECONDS = 1.0
"""Between two looks."""

log = logging.getLogger("learnae")


class Seeker:
    """Looks until a daemon waits for this script; `found` is then the line to it, to be taken once."""

    def __init__(self, daemon: LocalDaemon) -> None:
        self._daemon = daemon
        self._found: Link | None = None
        self._stopped = threading.Event()

    @property
    def found(self) -> bool:
        """There is something to `take`."""
        return self._found is not None

    def start(self) -> None:
        """Begin to look."""
        self._stopped.clear()
        threading.Thread(target=self._seek, name="learnae-seek", daemon=True).start()

    def take(self) -> Link | None:
        """What was found."""
        found, self._found = self._found, None
        return found

    def close(self) -> None:
        """Look no more, and give up what was found."""
        self._stopped.set()
        if (found := self.take()) is not None:
            found.close()

    def _seek(self) -> None:
        while not self._stopped.wait(SECONDS):
            try:
                self._daemon.revive()
                link = self._daemon.look()
            except (LearnaeError, OSError) as error:
                log.debug("not attached yet: %s", error)
                continue
            if link is not None:
                self._found = link
                return
