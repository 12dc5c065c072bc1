from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from libp2p.pubsub.pb import rpc_pb2

from learnae.errors import NetworkError
from learnaed.network.pubsub import MAX_CACHED_BYTES, ContentCache, message_id
from tests.network.support import Attacker, connect, start, until

TOPIC = "/learnae/1/test/peers"


async def test_three_nodes_hear_each_other_at_once_and_not_themselves(nursery: trio.Nursery) -> None:
    nodes = [await start(nursery, name, TOPIC) for name in "abc"]
    await connect(*nodes)
    for index, node in enumerate(nodes):
        await node.network.publish(TOPIC, bytes([index]))
    await until(lambda: all(len(node.messages) == 2 for node in nodes))
    for index, node in enumerate(nodes):
        assert node.data() == [bytes([other]) for other in range(3) if other != index]
        assert {peer for _, _, peer in node.messages} <= {other.network.peer_id for other in nodes}
        assert node.network.statistics().counters.messages_published == 1
        assert node.network.statistics().counters.messages_received == 2


async def test_a_message_published_before_anybody_is_there_reaches_who_connects_then(nursery: trio.Nursery) -> None:
    first, second = await start(nursery, "a", TOPIC), await start(nursery, "b", TOPIC)
    second.network.learn_addresses(first.network.peer_id, first.network.addresses)
    await until(lambda: first.network.connected())
    await first.network.publish(TOPIC, b"early")
    await until(lambda: second.data() == [b"early"])


async def test_forwarding_reaches_a_node_that_is_connected_to_one_only(nursery: trio.Nursery) -> None:
    nodes = [await start(nursery, name, TOPIC, max_connections=2) for name in "abcd"]
    for before, node in pairwise(nodes):
        node.network.learn_addresses(before.network.peer_id, before.network.addresses)
        await until(lambda before=before, node=node: before.network.peer_id in node.network.connected())  # type: ignore[misc]
    await nodes[0].network.publish(TOPIC, b"along the line")
    await until(lambda: all(node.data() == [b"along the line"] for node in nodes[1:]))
    assert nodes[0].messages == []


async def test_a_burst_arrives_completely(nursery: trio.Nursery) -> None:
    a, b = await start(nursery, "a", TOPIC), await start(nursery, "b", TOPIC)
    await connect(a, b)
    burst = [f"{number:04}".encode() * 256 for number in range(150)]
    for data in burst:
        await a.network.publish(TOPIC, data)
    await until(lambda: len(b.messages) == len(burst))
    assert b.data() == burst
    assert b.dropped == {}


async def test_a_burst_from_before_the_own_stream_was_open_arrives_completely(nursery: trio.Nursery) -> None:
    a, b = await start(nursery, "a", TOPIC), await start(nursery, "b", TOPIC)
    gossip = a.network._host.gossip  # type: ignore[union-attr]
    gossip._greets = lambda peer: False
    await connect(a, b)
    await until(lambda: TOPIC in gossip.peer_topics)
    burst = [f"{number:04}".encode() * 256 for number in range(150)]
    for data in burst:
        await a.network.publish(TOPIC, data)
    assert b.messages == []
    gossip._greets = lambda peer: True
    gossip.welcome(Attacker.peer(b))
    await until(lambda: len(b.messages) == len(burst))
    assert b.data() == burst
    assert a.dropped == b.dropped == {}


async def test_topics_come_and_go_while_running(nursery: trio.Nursery) -> None:
    a, b = await start(nursery, "a", TOPIC), await start(nursery, "b", TOPIC)
    await connect(a, b)
    a.listen_to("second")
    b.listen_to("second")
    await until(lambda: "second" in b.network._host.gossip.peer_topics)  # type: ignore[union-attr]
    await a.network.publish("second", b"hello")
    await until(lambda: b.messages)
    b.network.unsubscribe("second")
    await until(lambda: "second" not in a.network._host.gossip.peer_topics)  # type: ignore[union-attr]
    await a.network.publish("second", b"nobody listens")
    await a.network.publish(TOPIC, b"end")
    await until(lambda: len(b.messages) == 2)
    assert [data for _, data, _ in b.messages] == [b"hello", b"end"]


async def test_a_large_message_is_refused_here(nursery: trio.Nursery) -> None:
    a = await start(nursery, "a", TOPIC)
    await a.network.publish(TOPIC, bytes(64 * 1024))
    with pytest.raises(NetworkError, match="65537 bytes"):
        await a.network.publish(TOPIC, bytes(64 * 1024 + 1))


async def test_a_raising_handler_is_counted_and_does_no_harm(nursery: trio.Nursery) -> None:
    a, b = await start(nursery, "a", TOPIC), await start(nursery, "b")
    heard: list[bytes] = []

    def handler(data: bytes, peer: str) -> None:
        heard.append(data)
        raise RuntimeError("the test's own")

    b.network.subscribe(TOPIC, handler)
    await connect(a, b)
    for data in (b"one", b"two"):
        await a.network.publish(TOPIC, data)
    await until(lambda: heard == [b"one", b"two"])
    assert b.dropped == {"handler-error": 2}
    assert a.network.connected() == {b.network.peer_id}


def test_the_cache_of_recent_messages_is_bounded_and_ages() -> None:
    cache = ContentCache(1, 3)
    for number in range(300):
        cache.put(rpc_pb2.Message(data=number.to_bytes(4, "big") * 16_000, topicIDs=[TOPIC]))
    assert len(cache.msgs) == MAX_CACHED_BYTES // 64_000
    for _ in range(3):
        cache.shift()
    assert cache.msgs == {}
    message = rpc_pb2.Message(data=b"again", topicIDs=[TOPIC])
    cache.put(message)
    assert cache.window(TOPIC) == [message_id(message)]
