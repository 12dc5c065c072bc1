"""Stand-ins for what is around the driver: a network that connects services without any socket, and a coordinator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from nacl.signing import SigningKey

from learnae.coordinator import actions, events
from learnae.errors import NetworkError
from learnae.genesis import Genesis
from learnae.ledger import Ledger, Refusal
from learnae.peer import peer_id

Handler = Callable[[bytes, str], Awaitable[bytes]]


def key(name: str) -> bytes:
    """The public key of a node with this name."""
    return bytes(SigningKey(name.encode().ljust(32, b".")).verify_key)


class FakeNetwork:
    """What `Network` offers, between objects of one process."""

    def __init__(self, name: str, others: dict[str, FakeNetwork]) -> None:
        self.peer_id = peer_id(key(name))
        self.addresses: tuple[str, ...] = ()
        self.published: list[tuple[str, bytes]] = []
        self.subscribed: dict[str, Callable[[bytes, str], None]] = {}
        self.handlers: dict[str, Handler] = {}
        self.requests: Counter[str] = Counter()
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
