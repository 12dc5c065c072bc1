"""The own update numbers that are taken, in a file beside the database, whose loss they survive; used by `Store`."""

from __future__ import annotations

import json
from pathlib import Path

from learnae.errors import StoreError, disk_code
from learnaed import durable, logs

log = logs.get("store")


class Numbers:
    """The highest own number used in each swarm. Two updates under one number would make others drop one of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken: dict[str, int] = {}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            self._taken = {str(swarm): int(seq) for swarm, seq in found.items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("the copy of the own update numbers is unreadable; the database has them too", why=error)

    def last(self, swarm: bytes) -> int:
        """The highest number that is taken; 0 if none is."""
        return self._taken.get(swarm.hex(), 0)

    def take(self, swarm: bytes, seq: int) -> None:
        """Take the numbers up to this one; durable when this returns.

        Raises:
            StoreError: the file cannot be written.
        """
        if seq <= self.last(swarm):
            return
        taken = self._taken | {swarm.hex(): seq}
        try:
            durable.replace(self._path, json.dumps(taken).encode())
        except OSError as error:
            raise StoreError(
                f"{self._path} cannot be written: {error.strerror}; check that the disk is not full and that the file "
                "is writable; nothing stored before is lost",
                code=disk_code(error, "file-unwritable"),
            ) from error
        self._taken = taken
