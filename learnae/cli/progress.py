"""A bar for requests that take long, from what the daemon's status says meanwhile; used by `pin` and `import`."""

from __future__ import annotations

import threading
from typing import Any

from rich.console import Console

from learnae.cli import tables
from learnae.cli.daemons import LONG, Daemon
from learnae.errors import DaemonError

EVERY = 0.5
"""Seconds between two looks."""


def post(daemon: Daemon, path: str, what: str) -> Any:
    """The answer to POST. Until it comes, a terminal shows `what` of the daemon's snapshots: how far it is.

    Raises:
        DaemonError: see `Daemon.post`.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        return daemon.post(path, LONG)
    done = threading.Event()
    with console.status(what) as shown:

        def watch() -> None:
            while not done.wait(EVERY):
                try:
                    at = daemon.get("/api/status")["snapshots"].get(what)
                except (DaemonError, KeyError):
                    continue
                if at:
                    shown.update(f"{what} {tables.progress(at)}")

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            return daemon.post(path, LONG)
        finally:
            done.set()
            watcher.join()
