"""All blocks that this node gives to whoever asks by CID: the source of Bitswap and of the block protocol."""

from __future__ import annotations

import trio

from learnaed.snapshots import Shelf
from learnaed.store import Store

_PARALLEL = 8


class Library:
    """Parts of updates and manifests from the ledger's store, snapshots from the shelf. Reads, and changes nothing."""

    def __init__(self, store: Store, shelf: Shelf) -> None:
        self._store = store
        self._shelf = shelf
        self._limiter = trio.CapacityLimiter(_PARALLEL)

    async def get(self, cid: bytes) -> bytes | None:
        """The block, verified; None if it is not here."""
        return await trio.to_thread.run_sync(self._get, cid, limiter=self._limiter)

    async def has(self, cid: bytes) -> int | None:
        """Its size in bytes; None if it is not here."""
        return await trio.to_thread.run_sync(self._size, cid, limiter=self._limiter)

    def _get(self, cid: bytes) -> bytes | None:
        return self._shelf.block(cid) or self._store.block(cid)

    def _size(self, cid: bytes) -> int | None:
        size = self._shelf.store.size(cid)
        if size is None:
            block = self._store.block(cid)
            size = len(block) if block is not None else None
        return size
