"""A private swarm's network: what outsiders see, who gets in, and how the secret is changed while it runs."""

from __future__ import annotations

from typing import Any

import trio

from learnae.club import Club, Cost
from learnaed.network import Network, NetworkSettings
from tests.network.support import LOOPBACK, Node, connect, key, run, until

CHEAP = Cost(1, 8192)
TOPIC = "/learnae/1/private/hospital/updates"


def club(*secrets: str, topic: str = "hospital") -> Club:
    return Club.derive(topic, secrets or ("correct horse battery",), CHEAP)


class Member(Node):
    notices: list[tuple[str, str]]


async def start(nursery: trio.Nursery, name: str, member: Club | None, **settings: Any) -> Member:
    events: list[tuple[str, bool]] = []
    notices: list[tuple[str, str]] = []
    network = Network(
        key(name),
        NetworkSettings(**({"listen": LOOPBACK, "mdns": False} | settings)),
        on_peer=lambda peer, up: events.append((peer, up)),
        club=member,
        notify=lambda level, text: notices.append((level, text)),
    )
    node = Member(network, events)
    node.notices = notices
    node.listen_to(TOPIC)
    await nursery.start(run, network)
    return node


async def test_members_meet_and_talk(nursery: trio.Nursery) -> None:
    nodes = [await start(nursery, f"m{number}", club()) for number in range(3)]
    await connect(*nodes)
    await nodes[0].network.publish(TOPIC, b"x" * 64 * 1024)
    await until(lambda: all(node.data() for node in nodes[1:]))
    assert nodes[1].data() == [b"x" * 64 * 1024]
