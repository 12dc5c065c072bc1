"""What to do about a damaged database: it is moved aside, and a new one begun; used by `app`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from learnae.errors import StoreError, disk_code
from learnaed.store.database import DamagedStore
from learnaed.store.store import Store

_FILES = ("", "-wal", "-shm")


def open_store(path: Path, author: bytes, notify: Callable[[str, str], None]) -> Store:
    """The store at this path; a damaged one is moved aside, and the user told.

    Raises:
        StoreError: the file is of a newer learnae, or cannot be written.
    """
    try:
        return Store(path, author)
    except DamagedStore as error:
        aside = set_aside(path)
        notify(
            "error",
            f"[{error.code}] the database {path} is damaged ({error.why}) and was moved to {aside.name}. A new one is "
            "begun: the swarm's updates come back from the peers, and no number of an own update is used again",
        )
        return Store(path, author)


def set_aside(path: Path) -> Path:
    """Move a damaged database out of the way, in place of one that lies there already; its new path.

    Raises:
        StoreError: the directory cannot be written.
    """
    aside = path.with_name(f"{path.name}.damaged")
    try:
        for suffix in _FILES:
            old, new = path.with_name(path.name + suffix), aside.with_name(aside.name + suffix)
            new.unlink(missing_ok=True)
            if old.exists():
                old.replace(new)
    except OSError as error:
        raise StoreError(
            f"the damaged database {path} cannot be moved aside: {error.strerror}; move it away by hand",
            code=disk_code(error, "file-unwritable"),
        ) from error
    return aside
