"""What this node asks of others on streams: missing updates, blocks, the genesis; used by the driver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import TypeVar

from learnae import wire
from learnae.errors import NetworkError, WireError
from learnae.genesis import Genesis
from learnae.ledger import Refusal
from learnae.peer import peer_id
from learnae.wire import BlockReply, BlockRequest, GenesisReply, GenesisRequest, SyncReply, SyncRequest
from learnaed import logs, protocols
from learnaed.network import Network

BLOCKS_AT_ONCE = 3
"""As many of an update's largest parts fit into a reply."""

M = TypeVar("M", bound=wire.Message)

log = logs.get("asker")


class Asker:
    """Asks peers. Whatever goes wrong makes the answer None, with the reason in the log.

    Args:
        network: carries the requests.
        refused: counts malformed answers.
    """

    def __init__(self, network: Network, refused: Counter[Refusal]) -> None:
        self._network = network
        self._refused = refused

    async def sync(self, peer: bytes, request: SyncRequest) -> SyncReply | None:
        """Updates that the request lacks."""
        return await self._ask(peer, protocols.SYNC, request, SyncReply)

    async def genesis(self, peer: bytes) -> Genesis | None:
        """What the peer trains."""
        reply = await self._ask(peer, protocols.GENESIS, GenesisRequest(), GenesisReply)
        return reply.genesis if reply is not None else None

    async def blocks(self, peer: bytes, cids: Sequence[bytes]) -> tuple[bytes, ...] | None:
        """The first of these blocks, at least one, up to one that the peer lacks. They may be others than asked for."""
        reply = await self._ask(peer, protocols.BLOCK, BlockRequest(tuple(cids)), BlockReply)
        given = tuple(takewhile(bool, reply.blocks[: len(cids)])) if reply is not None else ()
        return given or None

    async def _ask(self, peer: bytes, name: str, request: wire.Message, kind: type[M]) -> M | None:
        try:
            body = await self._network.request(peer_id(peer), name, wire.pack(request), max_reply=wire.MAX_REPLY)
            return wire.unpack(kind, body)
        except NetworkError as error:
            log.debug("no answer", peer=peer_id(peer), protocol=name, why=error)
        except WireError as error:
            self._refused[Refusal.MALFORMED] += 1
            log.warning("malformed answer", peer=peer_id(peer), protocol=name, why=error)
        return None
