"""Networks on loopback for the tests of this directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from learnaed.network import Network, NetworkSettings
from learnaed.network.addresses import Address
from learnaed.network.host import Host
from learnaed.network.settings import Counters

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)


def key(name: str) -> bytes:
    """A private key that is the same in every run."""
    return sha256(name.encode()).digest()


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    """Wait for a condition; fail after a deadline that a busy machine meets."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  # what is waited for is in another thread, or in libp2p
            await trio.sleep(0.005)


@dataclass
class Node:
    """A running network and what it has told its owner."""

    network: Network
    events: list[tuple[str, bool]] = field(default_factory=list)
    messages: list[tuple[str, bytes, str]] = field(default_factory=list)

    def listen_to(self, topic: str) -> None:
        self.network.subscribe(topic, lambda data, peer: self.messages.append((topic, data, peer)))

    def data(self) -> list[bytes]:
        return sorted(data for _, data, _ in self.messages)

    @property
    def dropped(self) -> dict[str, int]:
        return self.network.statistics().counters.dropped


def make(name: str, **settings: Any) -> Node:
    events: list[tuple[str, bool]] = []
    defaults: dict[str, Any] = {"listen": LOOPBACK, "mdns": False}
    chosen = NetworkSettings(**(defaults | settings))
    network = Network(key(name), chosen, on_peer=lambda peer, up: events.append((peer, up)))
    return Node(network, events)


async def start(nursery: trio.Nursery, name: str, topic: str | None = None, **settings: Any) -> Node:
    node = make(name, **settings)
    if topic is not None:
        node.listen_to(topic)
    await nursery.start(run, node.network)
    return node


async def run(network: Network, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    await network.run(task_status=task_status)


async def connect(*nodes: Node) -> None:
    """Every node knows the addresses of all before it; wait until all are connected to all."""
    for index, node in enumerate(nodes):
        for other in nodes[:index]:
            node.network.learn_addresses(other.network.peer_id, other.network.addresses)
    await until(lambda: all(len(node.network.connected()) >= len(nodes) - 1 for node in nodes))


class Attacker:
    """A libp2p host under the test's control, which speaks whatever it is told to."""

    def __init__(self, name: str) -> None:
        self.host = Host(
            key(name),
            NetworkSettings(listen=LOOPBACK),
            Counters(),
            deliver=lambda *_: None,
            on_peer=lambda *_: None,
        )

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        async with self.host.running([Address.parse(LOOPBACK[0])]):
            task_status.started()
            await trio.sleep_forever()

    async def dial(self, victim: Node) -> None:
        if victim.network.peer_id not in self.host.connected:
            await self.host.swarm.dial_addr(Multiaddr(victim.network.addresses[0]), self.peer(victim))
            await until(lambda: victim.network.peer_id in self.host.connected)

    async def stream(self, victim: Node, protocol: str) -> Any:
        return await self.host.streams.new_stream(self.peer(victim), [TProtocol(protocol)])

    @staticmethod
    def peer(victim: Node) -> ID:
        return ID.from_base58(victim.network.peer_id)


async def attacker(nursery: trio.Nursery, victim: Node, name: str = "attacker") -> Attacker:
    made = Attacker(name)
    await nursery.start(made.run)
    await made.dial(victim)
    return made
