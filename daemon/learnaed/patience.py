"""Calls to the store that wait for a full disk to have room again; used by the driver and what works for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import trio

from learnae.errors import StoreError, coded
from learnaed.store import DamagedStore, IncompleteUpdate

RETRY_SECONDS = 5.0

T = TypeVar("T")


class Patience:
    """Makes calls in a thread until they succeed: what is not durable may not be announced or added.

    Args:
        notify: tells the user, once when it begins to wait and once when that is over.
    """

    def __init__(self, notify: Callable[[str, str], None]) -> None:
        self.failures = 0
        self.waiting = 0
        """Calls that wait now."""
        self._notify = notify

    async def __call__(self, method: Callable[..., T], *arguments: object) -> T:
        """What the method returns.

        Raises:
            DamagedStore, IncompleteUpdate: at once, since waiting does not help.
        """
        failed = False
        while True:
            try:
                result = await trio.to_thread.run_sync(partial(method, *arguments))
            except (DamagedStore, IncompleteUpdate):
                raise
            except StoreError as error:
                self.failures += 1
                if not failed and not self.waiting:
                    self._notify("error", f"{coded(error)}; waiting, and trying again")
                self.waiting += not failed
                failed = True
                await trio.sleep(RETRY_SECONDS)
            else:
                self.waiting -= failed
                if failed and not self.waiting:
                    self._notify("info", "the database can be written again")
                return result
