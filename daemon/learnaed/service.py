"""Answers what other nodes ask on streams: missing updates, blocks, the genesis; wired into the network by `app`."""

from __future__ import annotations

import trio

from learnae import wire
from learnae.coordinator import Coordinator
from learnae.vector import VersionVector
from learnae.wire import BlockReply, BlockRequest, GenesisReply, GenesisRequest, SyncReply, SyncRequest
from learnaed import protocols
from learnaed.library import Library
from learnaed.network import Network
from learnaed.store import Store

_MARGIN = 4096
_PARALLEL = 8


class Service:
    """The handlers of the three stream protocols. They read store, snapshots and ledger, and change nothing.

    A request that breaks the format raises `WireError`, which the network counts and answers by closing the stream.
    """

    def __init__(self, coordinator: Coordinator, store: Store, library: Library) -> None:
        self._coordinator = coordinator
        self._store = store
        self._library = library
        self._limiter = trio.CapacityLimiter(_PARALLEL)

    def register(self, network: Network) -> None:
        """Serve on this network."""
        network.serve(protocols.SYNC, self._sync, max_request=wire.MAX_REPLY)
        network.serve(protocols.BLOCK, self._blocks, max_request=_MARGIN)
        network.serve(protocols.GENESIS, self._genesis, max_request=_MARGIN)

    async def _sync(self, body: bytes, peer: str) -> bytes:
        request = wire.unpack(SyncRequest, body)
        ledger = self._coordinator.ledger
        if ledger is None or request.swarm != ledger.swarm:
            return wire.pack(SyncReply(VersionVector(), (), more=False))
        vector = ledger.vector.copy()
        room = wire.MAX_REPLY - _MARGIN - len(wire.pack(SyncReply(vector, (), more=False)))
        missing = ledger.missing_at(request)
        async with self._limiter:
            envelopes = await trio.to_thread.run_sync(
                self._store.envelopes, ledger.swarm, missing[: wire.MAX_ENVELOPES], room
            )
        return wire.pack(SyncReply(vector, tuple(envelopes), more=len(envelopes) < len(missing)))

    async def _blocks(self, body: bytes, peer: str) -> bytes:
        request = wire.unpack(BlockRequest, body, _MARGIN)
        blocks: list[bytes] = []
        room = wire.MAX_REPLY - _MARGIN
        for cid in request.cids:
            block = await self._library.get(cid) or b""
            if len(block) > wire.MAX_BLOCK:
                block = b""  # as if it were not here: it does not fit into a reply
            room -= len(block) + 8
            if room < 0:
                break
            blocks.append(block)
        return wire.pack(BlockReply(tuple(blocks)))

    async def _genesis(self, body: bytes, peer: str) -> bytes:
        wire.unpack(GenesisRequest, body, _MARGIN)
        return wire.pack(GenesisReply(self._coordinator.genesis))
