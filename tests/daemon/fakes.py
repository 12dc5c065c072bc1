"""Stand-ins for what is around the driver: a network that connects services without any socket, and a coordinator."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

import trio
from nacl.signing import SigningKey

from learnae.coordinator import actions, events
from learnae.errors import NetworkError
from learnae.genesis import Genesis
from learnae.ledger import Ledger, Refusal
from learnae.peer import peer_id
from learnaed.network import Drop, Limits

Handler = Callable[[bytes, str], Awaitable[bytes]]


def key(name: str) -> bytes:
    """The public key of a node with this name."""
    return bytes(SigningKey(name.encode().ljust(32, b".")).verify_key)


class Donor(Protocol):
    """Whoever gives blocks."""

    async def get(self, cid: bytes) -> bytes | None: ...


class FakeSession:
    """What a Bitswap session offers: the blocks that are wanted, in this order, from the donors by turns.

    Args:
        donors: asked for blocks.
        seconds: how long a block takes.
    """

    def __init__(self, donors: Sequence[Donor], seconds: float = 0.0) -> None:
        self._donors = deque(donors)
        self._seconds = seconds
        self._wanted: deque[bytes] = deque()
        self._open = False

    def __enter__(self) -> FakeSession:
        self._open = True
        return self

    def __exit__(self, *error: object) -> None:
        self._open = False

    def add(self, peer: str) -> None:
        """Nobody else is here."""

    def want(self, cids: Iterable[bytes], sizes: Mapping[bytes, int] | None = None) -> None:
        self._wanted += [cid for cid in dict.fromkeys(cids) if cid not in self._wanted]

    ready = 0

    def __aiter__(self) -> FakeSession:
        return self

    async def __anext__(self) -> tuple[bytes, bytes]:
        assert self._open
        if not self._wanted:
            raise StopAsyncIteration
        await trio.sleep(self._seconds)
        for _ in range(len(self._donors)):
            self._donors.rotate()
            block = await self._donors[0].get(self._wanted[0])
            if block is not None:
                return self._wanted.popleft(), block
        raise NetworkError(f"{len(self._wanted)} blocks are missing and none came")


class FakeNetwork:
    """What `Network` offers, between objects of one process."""

    def __init__(self, name: str, others: dict[str, FakeNetwork]) -> None:
        self.peer_id = peer_id(key(name))
        self.addresses: tuple[str, ...] = ()
        self.published: list[tuple[str, bytes]] = []
        self.subscribed: dict[str, Callable[[bytes, str], None]] = {}
        self.handlers: dict[str, Handler] = {}
        self.requests: Counter[str] = Counter()
        self.source: Donor | None = None
        """Gives this node's blocks to others."""
        self.sessions = 0
        self.arrived: list[bytes] = []
        self._others = others
        others[self.peer_id] = self

    def subscribe(self, topic: str, handler: Callable[[bytes, str], None]) -> None:
        self.subscribed[topic] = handler

    def unsubscribe(self, topic: str) -> None:
        del self.subscribed[topic]

    async def publish(self, topic: str, data: bytes) -> None:
        self.published.append((topic, data))

    def serve(self, protocol: str, handler: Handler, *, max_request: int) -> None:
        self.handlers[protocol] = handler

    async def request(self, peer: str, protocol: str, body: bytes, *, max_reply: int) -> bytes:
        self.requests[protocol] += 1
        handler = self._others[peer].handlers.get(protocol) if peer in self._others else None
        if handler is None:
            raise NetworkError("nobody is there")
        reply = await handler(body, self.peer_id)
        assert len(reply) <= max_reply
        return reply

    def serve_blocks(self, source: Donor) -> None:
        self.source = source

    def session(
        self,
        peers: Iterable[str],
        *,
        limits: Limits | None = None,
        on_drop: Callable[[str, Drop], None] = lambda peer, reason: None,
    ) -> FakeSession:
        self.sessions += 1
        there = [self._others[peer].source for peer in peers if peer in self._others]
        return FakeSession([source for source in there if source is not None])

    def blocks_arrived(self, cids: Iterable[bytes]) -> None:
        self.arrived += cids

    def learn_addresses(self, peer: str, addresses: Sequence[str]) -> None:
        raise AssertionError("no test needs this")


class FakePeer:
    """A peer that is connected."""

    connected = True

    def __init__(self, key: bytes) -> None:
        self.key = key


class FakeCoordinator:
    """Notes the events, and wants done what the test says."""

    topic = "t"

    def __init__(self, genesis: Genesis) -> None:
        self.genesis: Genesis | None = genesis
        self.ledger: Ledger | None = Ledger(genesis.swarm_id(self.topic), genesis.rules)
        self.refused: Counter[Refusal] = Counter()
        self.peers: list[FakePeer] = []
        self.heard: list[events.Event] = []
        self.wanted: dict[type, list[actions.Action]] = {}
        self.follow: Callable[[events.Event], list[actions.Action]] = lambda event: self.wanted.get(type(event), [])

    def handle(self, event: events.Event, now: float) -> list[actions.Action]:
        self.heard.append(event)
        return self.follow(event)

    def said(self, kind: type) -> list[events.Event]:
        return [event for event in self.heard if isinstance(event, kind)]
