"""What strangers may send: every attack is counted, and the node goes on serving its friends."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import psutil
import pytest
import trio
from libp2p.network.stream.exceptions import StreamError
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_uvarint
from nacl.signing import SigningKey

from learnae.errors import NetworkError
from learnae.peer import peer_id
from learnaed.network.addresses import Address
from learnaed.network.patches import CONNECTION_BUFFER
from learnaed.network.pubsub import PROTOCOL
from tests.network.support import Attacker, Node, attacker, connect, key, start, until

TOPIC = "/learnae/1/test/updates"
ECHO = "/learnae/test-echo/1"
MESHSUB = str(PROTOCOL)


async def echo(body: bytes, peer: str) -> bytes:
    return body


@asynccontextmanager
async def attacked(**settings: Any) -> AsyncIterator[tuple[Node, Attacker]]:
    """A node with a friend and an attacker connected; afterwards it must still hear and serve the friend."""
    async with trio.open_nursery() as nursery:
        victim, friend = await start(nursery, "victim", TOPIC, **settings), await start(nursery, "friend", TOPIC)
        victim.network.serve(ECHO, echo, max_request=1_000_000)
        await connect(victim, friend)
        yield victim, await attacker(nursery, victim)
        await friend.network.publish(TOPIC, b"the friend is heard")
        await until(lambda: b"the friend is heard" in victim.data())
        assert await friend.network.request(victim.network.peer_id, ECHO, b"x", max_reply=10) == b"x"
        assert (victim.network.peer_id, False) not in friend.events
        assert victim.network.statistics().counters.host_restarts == 0
        nursery.cancel_scope.cancel()


def prefixed(rpc: rpc_pb2.RPC) -> bytes:
    raw = rpc.SerializeToString()
    return encode_uvarint(len(raw)) + raw


async def test_random_bytes_on_the_port() -> None:
    random = Random(7)
    async with attacked() as (victim, _):
        address = Address.parse(victim.network.addresses[0])
        for _ in range(40):
            stream = await trio.open_tcp_stream(address.host, address.port)
            async with stream:
                try:
                    await stream.send_all(random.randbytes(random.choice([1, 20, 3000])))
                    await stream.send_eof()
                    while await stream.receive_some():
                        pass
                except trio.BrokenResourceError:
                    pass
        await until(lambda: victim.dropped.get("handshake", 0) + victim.dropped.get("too-many-handshakes", 0) >= 40)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (encode_uvarint(50) + Random(1).randbytes(50), "malformed-rpc"),
        (encode_uvarint(100_000_000), "oversized"),
        (b"\xff" * 11, "malformed-rpc"),
        (prefixed(rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=str(n)) for n in range(500)])),
         "subscription-flood"),
        (prefixed(rpc_pb2.RPC(publish=[rpc_pb2.Message(data=b"x", topicIDs=["elsewhere"])])), "unknown-topic"),
        (prefixed(rpc_pb2.RPC(publish=[rpc_pb2.Message(data=b"x", topicIDs=[TOPIC, TOPIC])])), "unknown-topic"),
        (prefixed(rpc_pb2.RPC(publish=[rpc_pb2.Message(data=bytes(65537), topicIDs=[TOPIC])])), "oversized"),
        (prefixed(rpc_pb2.RPC(control=rpc_pb2.ControlMessage(
            ihave=[rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=[b"%d" % n for n in range(5000)])]))),
         "control-flood"),
    ],
)  # fmt: skip
async def test_malformed_pubsub(raw: bytes, reason: str) -> None:
    async with attacked() as (victim, enemy):
        stream = await enemy.stream(victim, MESHSUB)
        await stream.write(raw)
        await until(lambda: victim.dropped.get(reason) == 1)


@pytest.mark.parametrize("author", [b"", b"garbage", bytes(5000)])
async def test_messages_with_garbage_authors_keys_and_records_are_only_data(author: bytes) -> None:
    async with attacked() as (victim, enemy):
        message = rpc_pb2.Message(
            data=b"payload", topicIDs=[TOPIC], from_id=author, key=b"\x08\x01garbage", signature=author, seqno=author
        )
        stream = await enemy.stream(victim, MESHSUB)
        await stream.write(prefixed(rpc_pb2.RPC(publish=[message], senderRecord=b"garbage")))
        await until(lambda: victim.messages)
        assert victim.messages == [(TOPIC, b"payload", str(enemy.host.swarm.get_peer_id()))]


async def test_random_rpcs_do_no_harm() -> None:
    random = Random(11)
    template = rpc_pb2.RPC(
        publish=[rpc_pb2.Message(data=b"x" * 50, topicIDs=[TOPIC])],
        control=rpc_pb2.ControlMessage(
            graft=[rpc_pb2.ControlGraft(topicID=TOPIC)],
            prune=[rpc_pb2.ControlPrune(topicID=TOPIC, backoff=2**63, peers=[rpc_pb2.PeerInfo(peerID=b"x")])],
            iwant=[rpc_pb2.ControlIWant(messageIDs=[b"1", b"zz"])],
        ),
    ).SerializeToString()
    async with attacked() as (victim, enemy):
        for _ in range(60):
            damaged = bytearray(template)
            for _ in range(random.randrange(1, 6)):
                damaged[random.randrange(len(damaged))] = random.randrange(256)
            await until(lambda: True)
            try:
                await enemy.dial(victim)
                stream = await enemy.stream(victim, MESHSUB)
                await stream.write(encode_uvarint(len(damaged)) + bytes(damaged))
            except Exception:  # the victim has closed the connection, as it should
                await trio.sleep(0.05)
        assert victim.dropped["malformed-rpc"] > 0


async def test_a_flood_of_messages_is_rate_limited() -> None:
    async with attacked(messages_per_second=20.0) as (victim, enemy):
        stream = await enemy.stream(victim, MESHSUB)
        for number in range(500):
            message = rpc_pb2.Message(data=b"%d" % number, topicIDs=[TOPIC])
            await stream.write(prefixed(rpc_pb2.RPC(publish=[message])))
        await until(lambda: victim.dropped.get("rate-limited", 0) + len(victim.messages) == 500)
        assert 200 <= len(victim.messages) <= 400


async def test_a_length_prefix_of_100_mb_on_every_protocol_costs_no_memory() -> None:
    process = psutil.Process()
    async with attacked() as (victim, enemy):
        before = process.memory_info().rss
        for protocol in ("/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", ECHO, MESHSUB):
            await enemy.dial(victim)
            stream = await enemy.stream(victim, protocol)
            prefix = struct.pack("!I", 100_000_000) if protocol == ECHO else encode_uvarint(100_000_000)
            await stream.write(prefix + bytes(60))
        # multistream-select's own length prefix, before any protocol is agreed on
        await enemy.dial(victim)
        raw = await enemy.host.swarm.new_stream(enemy.peer(victim))
        await raw.write(encode_uvarint(100_000_000) + bytes(1000))
        await until(lambda: victim.dropped.get("malformed-request") == victim.dropped.get("oversized") == 1)
        with pytest.raises(StreamError):
            while True:
                await raw.read(100)
        assert process.memory_info().rss - before < 20_000_000


async def test_a_peer_that_ignores_flow_control_is_cut_off() -> None:
    async def never(body: bytes, peer: str) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async with attacked() as (victim, enemy):
        victim.network.serve("/learnae/test-never/1", never, max_request=10)
        stream = await enemy.stream(victim, "/learnae/test-never/1")
        muxed = stream.muxed_conn
        flood = struct.pack("!BBHII", 0, 0, 0, stream.muxed_stream.stream_id, 60_000) + bytes(60_000)
        sent = 0
        try:
            while sent < 4 * CONNECTION_BUFFER:
                await muxed._write_frame(flood)
                sent += 60_000
        except Exception:
            assert sent >= 60_000
        await until(lambda: victim.dropped.get("buffer-overrun") == 1)
        await until(lambda: str(enemy.host.swarm.get_peer_id()) not in victim.network.connected())


async def test_many_streams_and_many_connections_are_bounded() -> None:
    async with attacked() as (victim, enemy):
        address = Address.parse(victim.network.addresses[0])
        async with trio.open_nursery() as nursery:
            # opened and left silent: they hold handshake slots until the deadline
            idle = [await trio.open_tcp_stream(address.host, address.port) for _ in range(60)]
            await until(lambda: victim.dropped.get("too-many-handshakes", 0) >= 40)
            for stream in idle:
                await stream.aclose()
            for _ in range(120):
                nursery.start_soon(enemy.host.swarm.new_stream, enemy.peer(victim))
        await until(lambda: victim.dropped.get("too-many-streams", 0) >= 50)


@pytest.mark.parametrize("answer", [b"\x02\xff\n", b"\x13/multistream/1.0.0\n\x02\xff\n", b"\xff" * 20, b"\x00", b""])
async def test_a_peer_that_answers_a_negotiation_with_garbage(answer: bytes) -> None:
    async with attacked() as (victim, bad):

        async def reply(stream: Any) -> None:
            await stream.write(answer)
            await stream.close()

        bad.host.swarm.set_stream_handler(reply)
        with pytest.raises(NetworkError):
            await victim.network.request(
                peer_id(bytes(SigningKey(key("attacker")).verify_key)), ECHO, b"x", max_reply=10, progress_timeout=1.0
            )
        assert victim.network.statistics().counters.requests_failed == 1
