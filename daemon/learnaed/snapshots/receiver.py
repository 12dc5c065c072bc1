"""Fetches the snapshots that the coordinator asks for, one at a time, and tells how it goes; used by the driver."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

import trio

from learnae.errors import NetworkError, StoreError
from learnae.layout import Layout
from learnae.peer import peer_id
from learnaed import logs
from learnaed.blockstore import NoRoom
from learnaed.network import Limits, Network
from learnaed.snapshots.download import Download, Progress, held_of, note_drop, tell
from learnaed.snapshots.shelf import LARGEST_HEADER, Shelf, check_fit

log = logs.get("snapshots")


class Receiver:
    """Downloads onto the shelf.

    Args:
        shelf: where snapshots belong.
        network: asks peers for blocks.
        notify: tells the user.
    """

    def __init__(self, shelf: Shelf, network: Network, notify: Callable[[str, str], None]) -> None:
        self._shelf = shelf
        self._network = network
        self._notify = notify
        self._download: Download | None = None
        self._scope: trio.CancelScope | None = None
        self._complaint = ""

    @property
    def progress(self) -> Progress | None:
        """Of the snapshot that is being fetched, if one is."""
        return self._download.progress if self._download is not None else None

    async def fetch(self, cid: bytes, holders: Sequence[bytes], layout: Layout) -> bool | None:
        """Fetch a snapshot of a model with this layout, in the place of another one that is being fetched.

        Returns:
            Whether it is here; None if it is being fetched already, now from these holders, too, or another one is
            wanted by now.
        """
        if self._download is not None and self._download.progress.cid == cid:
            self._download.add(map(peer_id, holders))
            return None
        limit, check = 4 * layout.size + LARGEST_HEADER, partial(check_fit, layout)
        limits = Limits(held=held_of(4 * layout.size))
        session = partial(self._network.session, limits=limits, on_drop=note_drop)
        arrived = self._network.blocks_arrived
        download = Download(self._shelf.store, cid, holders, session, limit, check, arrived=arrived)
        if self._scope is not None:
            self._scope.cancel()
        done = False
        with trio.CancelScope() as scope:
            self._download, self._scope = download, scope
            async with tell(download):
                done = await self._succeeds(download)
        if self._download is download:
            self._download, self._scope = None, None
        return None if scope.cancelled_caught else done

    async def _succeeds(self, download: Download) -> bool:
        try:
            await self._run(download)
        except (NetworkError, StoreError) as error:
            self.complain(error)
            return False
        self._complaint = ""
        return True

    async def _run(self, download: Download) -> None:
        """Nobody is asked if it is all here: the trainer may have come to the same weights."""
        while True:
            try:
                return await download.run()
            except NoRoom:
                if not await trio.to_thread.run_sync(self._shelf.give_way):
                    raise

    def complain(self, error: NetworkError | StoreError) -> None:
        """Tell the user, once, whatever the figures in it: it is tried every few seconds."""
        kind = re.sub(r"\d+", "#", str(error))
        if kind != self._complaint:
            self._complaint = kind
            self._notify("warning", str(error))
