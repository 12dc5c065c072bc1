"""Notices that the file of secrets was changed, so that a private swarm need not stop for it; used by `app`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from learnae.club import Secrets
from learnae.errors import LearnaeError
from learnaed import passphrase

LOOK_EVERY = 5.0


async def follow(
    path: Path, secrets: Secrets, changed: Callable[[Secrets], Awaitable[None]], notify: Callable[[str, str], None]
) -> None:
    """Call `changed` whenever the file holds other secrets than before, until cancelled. The user is told where what it
    holds cannot be used; then the secrets stay as they were."""
    seen: object = None
    while True:
        await trio.sleep(LOOK_EVERY)
        stamp = await trio.to_thread.run_sync(_stamp, path)
        if stamp == seen:
            continue
        seen = stamp
        try:
            found = await trio.to_thread.run_sync(passphrase.read, path)
        except LearnaeError as error:
            notify("warning", f"the secrets stay as they were: {error}")
            continue
        if found != secrets:
            secrets = found
            await changed(secrets)


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_size, found.st_ino
