"""A private swarm's network: what outsiders see, who gets in, and how the secret is changed while it runs."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest
import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_uvarint
from nacl.signing import SigningKey

from learnae.cid import raw_cid
from learnae.club import Club, Cost
from learnae.errors import ConfigError, NetworkError
from learnae.peer import peer_id
from learnaed.network import Network, NetworkSettings, membership
from learnaed.network.addresses import Address
from learnaed.network.bitswap import wire
from learnaed.network.discovery import encode_txt
from learnaed.network.framing import read_frame, write_frame
from learnaed.network.membership import PROTOCOL
from learnaed.network.pubsub import PROTOCOL as MESHSUB
from tests.ipfs.dag import Blocks
from tests.network.support import LOOPBACK, Attacker, Node, connect, key, run, until

CHEAP = Cost(1, 8192)
TOPIC = "/learnae/1/private/hospital/updates"
ECHO = "/learnae/test-echo/1"
OLD, NEW = "correct horse battery", "staple of another kind"
PAYLOAD = b"a weight update that nobody else may read"


def club(*secrets: str, topic: str = "hospital") -> Club:
    return Club.derive(topic, secrets or (OLD,), CHEAP)


class Member(Node):
    """A network with the lines that its user was told."""

    notices: list[str]

    @property
    def peer(self) -> str:
        return self.network.peer_id

    def told(self, other: Node, words: str) -> int:
        return sum(other.network.peer_id in line and words in line for line in self.notices)


async def echo(body: bytes, peer: str) -> bytes:
    return body


async def start(nursery: trio.Nursery, name: str, member: Club | None, **settings: Any) -> Member:
    events: list[tuple[str, bool]] = []
    notices: list[str] = []
    chosen: dict[str, Any] = {"listen": LOOPBACK, "mdns": False, **settings}
    network = Network(
        key(name),
        NetworkSettings(**chosen),
        on_peer=lambda peer, up: events.append((peer, up)),
        club=member,
        notify=lambda level, text: notices.append(text),
    )
    node = Member(network, events)
    node.notices = notices
    node.listen_to(TOPIC)
    network.serve(ECHO, echo, max_request=1000)
    await nursery.start(run, network)
    return node


async def dial(node: Node, other: Node) -> None:
    """At once, where `introduce` leaves it to the dialer, which is polite."""
    await node.network._dial(Address.parse(other.network.addresses[0]))


def introduce(node: Node, *others: Node) -> None:
    for other in others:
        node.network.learn_addresses(other.network.peer_id, other.network.addresses)


async def everybody_hears(*nodes: Member, says: bytes) -> None:
    """What each of them says reaches all the others."""
    for node in nodes:
        await node.network.publish(TOPIC, says + node.peer.encode())
    for node in nodes:
        others = {says + other.peer.encode() for other in nodes if other is not node}
        await until(lambda node=node, others=others: others <= set(node.data()))  # type: ignore[misc]


async def test_members_meet_talk_and_serve_each_other(nursery: trio.Nursery) -> None:
    nodes = [await start(nursery, f"m{number}", club()) for number in range(3)]
    blocks = Blocks()
    cid = blocks.put(PAYLOAD)
    nodes[0].network.serve_blocks(blocks)
    await connect(*nodes)
    largest = bytes(64 * 1024)
    await nodes[0].network.publish(TOPIC, largest)
    await nodes[0].network.publish(TOPIC, largest)
    await everybody_hears(*nodes, says=b"hello from ")
    assert nodes[1].data().count(largest) == 1
    assert await nodes[1].network.request(nodes[0].peer, ECHO, b"x", max_reply=10) == b"x"
    with nodes[2].network.session([nodes[0].peer]) as session:
        assert [data async for _, data in session.fetch([cid])] == [PAYLOAD]
    assert all(node.notices == [] and node.network.private for node in nodes)
    assert sorted(nodes[0].events) == sorted((node.peer, True) for node in nodes[1:])


@pytest.mark.parametrize(
    ("theirs", "here", "there"),
    [
        (None, "has no secret", "this node has no secret"),
        (club(NEW), "different secrets", "different secrets"),
        (club(topic="another"), "different secrets", "different secrets"),
    ],
    ids=["no-secret", "wrong-secret", "wrong-topic"],
)
@pytest.mark.parametrize("dials", ["member", "stranger"])
async def test_who_does_not_have_the_secret_stays_out_and_both_are_told_why(
    nursery: trio.Nursery, theirs: Club | None, here: str, there: str, dials: str
) -> None:
    member, friend = await start(nursery, "member", club()), await start(nursery, "friend", club())
    stranger = await start(nursery, "stranger", theirs)
    await dial(*((member, stranger) if dials == "member" else (stranger, member)))
    await until(lambda: member.told(stranger, here) and stranger.told(member, there))
    await until(lambda: not member.network._host.connected and not stranger.network._host.connected)  # type: ignore[union-attr]
    await dial(friend, member)
    await everybody_hears(member, friend, says=b"the swarm goes on, says ")
    assert stranger.peer not in member.network.connected()
    assert [peer for peer, _ in member.events] == [friend.peer]
    assert stranger.data() == []
    assert member.dropped["stranger"] >= 1


async def test_the_reason_is_told_once_however_often_it_is_tried(nursery: trio.Nursery) -> None:
    member, stranger = await start(nursery, "member", club()), await start(nursery, "stranger", club(NEW))
    introduce(stranger, member)
    for _ in range(4):
        before = member.dropped.get("stranger", 0)
        await dial(stranger, member)
        await until(lambda before=before: member.dropped.get("stranger", 0) > before)  # type: ignore[misc]
        await until(lambda: not stranger.network._host.connected)  # type: ignore[union-attr]
    assert member.told(stranger, "different secrets") == stranger.told(member, "different secrets") == 1
    due = stranger.network._dialer._candidates[member.peer].due - trio.current_time()
    assert due > 20  # it keeps looking, but not every second


async def test_a_member_comes_in_when_it_has_the_secret(nursery: trio.Nursery) -> None:
    member, late = await start(nursery, "member", club()), await start(nursery, "late", club(NEW))
    introduce(late, member)  # the dialer must try again by itself
    await until(lambda: late.notices)
    late.network.rekey(club())
    await until(lambda: late.peer in member.network.connected())
    await everybody_hears(member, late, says=b"now it works, says ")


class Outsider(Attacker):
    """Completes Noise, then keeps the member's handshake waiting for as long as the member allows, and records all
    that reaches it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.heard = bytearray()
        for protocol in (PROTOCOL, str(MESHSUB), *wire.PROTOCOLS):
            self.host.streams.set_stream_handler(protocol, self._record)  # type: ignore[arg-type]

    async def _record(self, stream: Any) -> None:
        while data := await stream.read(4096):
            self.heard += data


async def refused(action: Callable[[], Awaitable[bytes]]) -> bool:
    """Whether the stream is reset, or ends, with nothing on it."""
    try:
        with trio.fail_after(5):
            return not await action()
    except (BaseLibp2pError, NetworkError):
        return True


async def test_an_outsider_that_completes_noise_gets_nothing(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "SECONDS", 5.0)
    member, friend = await start(nursery, "member", club()), await start(nursery, "friend", club())
    blocks = Blocks()
    blocks.put(PAYLOAD)
    member.network.serve_blocks(blocks)
    await connect(member, friend)
    outsider = Outsider("outsider")
    await nursery.start(outsider.run)
    await outsider.dial(member)

    names = club().names(TOPIC)
    subscribe = rpc_pb2.RPC(
        subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=name) for name in (TOPIC, *names)],
        control=rpc_pb2.ControlMessage(graft=[rpc_pb2.ControlGraft(topicID=names[0])]),
        publish=[rpc_pb2.Message(data=b"forged", topicIDs=[names[0]])],
    ).SerializeToString()
    want = b"".join(wire.framed([wire.wantlist([wire.Entry(raw_cid(PAYLOAD))], full=True)]))

    async def say(protocol: str, data: bytes) -> bytes:
        stream = await outsider.stream(member, protocol)
        await stream.write(data)
        return bytes(await stream.read(1000))

    async def ask() -> bytes:
        stream = await outsider.stream(member, ECHO)
        await write_frame(stream, b"x", 5.0, lambda: None)
        return await read_frame(stream, 100, 5.0)

    assert await refused(lambda: say(str(MESHSUB), encode_uvarint(len(subscribe)) + subscribe))
    assert await refused(lambda: say(wire.PROTOCOLS[0], want))
    assert await refused(ask)
    assert member.network._host is not None
    handlers = {str(name) for name in member.network._host.streams.multiselect.handlers}
    closed = handlers - {"/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", PROTOCOL}
    assert closed == {ECHO, str(MESHSUB), *wire.PROTOCOLS}
    before = member.dropped["stranger"]
    for protocol in closed:
        assert await refused(lambda protocol=protocol: say(protocol, b"\x00"))  # type: ignore[misc]
    assert member.dropped["stranger"] >= before + len(closed)
    await everybody_hears(member, friend, says=PAYLOAD)
    assert await say("/ipfs/ping/1.0.0", bytes(32)) == bytes(32)
    assert member.dropped["stranger"] >= 3
    assert b"forged" not in member.data()
    heard = bytes(outsider.heard)
    assert 0 < len(heard) < 200  # the hello of the member's handshake
    assert not any(secret in heard for secret in (PAYLOAD, b"hospital", OLD.encode(), names[0].encode()))
    await until(lambda: not outsider.host.connected, 20)  # it has not proved anything in time


async def test_what_is_recorded_between_members_shows_nothing(nursery: trio.Nursery) -> None:
    """A proxy between two members records all bytes."""
    one, two = await start(nursery, "one", club()), await start(nursery, "two", club())
    place = Address.parse(one.network.addresses[0])
    recorded = bytearray()

    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        async for data in source:
            recorded.extend(data)
            await sink.send_all(data)

    async def forward(stream: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream(place.host, place.port) as onward, trio.open_nursery() as both:
            both.start_soon(pump, stream, onward)
            both.start_soon(pump, onward, stream)

    proxy = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, forward, proxy)
    port = proxy[0].socket.getsockname()[1]
    two.network.learn_addresses(one.peer, [f"/ip4/127.0.0.1/tcp/{port}"])
    await until(lambda: one.peer in two.network.connected())
    await everybody_hears(one, two, says=PAYLOAD)
    assert await two.network.request(one.peer, ECHO, PAYLOAD, max_reply=100) == PAYLOAD
    assert len(recorded) > 1000
    words = (PAYLOAD, b"hospital", OLD.encode(), club().names(TOPIC)[0].encode(), TOPIC.encode(), b"/learnae/")
    assert [word for word in words if word in recorded] == []


async def test_what_pubsub_itself_carries_is_sealed(nursery: trio.Nursery) -> None:
    """Inside Noise, where a member forwards it: neither content nor topic is there in the clear."""
    one, two = await start(nursery, "one", club()), await start(nursery, "two", club())
    carried: list[rpc_pb2.Message] = []
    assert two.network._host is not None
    inner = two.network._host.gossip.push_msg

    async def push(msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        carried.append(msg)
        await inner(msg_forwarder, msg)

    two.network._host.gossip.push_msg = push  # type: ignore[method-assign]
    await connect(one, two)
    await everybody_hears(one, two, says=PAYLOAD)
    raw = b"".join(message.SerializeToString() for message in carried)
    assert raw and PAYLOAD not in raw and b"hospital" not in raw and one.peer.encode() not in raw


async def test_a_message_that_no_secret_opens_is_neither_delivered_nor_passed_on(nursery: trio.Nursery) -> None:
    one, two, three = [await start(nursery, name, club()) for name in ("one", "two", "three")]
    await dial(two, one)
    await dial(three, two)
    await until(lambda: len(two.network.connected()) == 2)
    await everybody_hears(one, two, three, says=b"before, says ")
    assert one.network._host is not None
    await one.network._host.gossip.publish(club().names(TOPIC)[0], b"not sealed")
    await one.network._host.gossip.publish(club().names(TOPIC)[0], club(NEW).seal(TOPIC, PAYLOAD))
    await until(lambda: two.dropped.get("unopened") == 2)
    await everybody_hears(one, two, three, says=b"after, says ")
    assert "unopened" not in three.dropped
    assert PAYLOAD not in two.data()


async def test_garbage_instead_of_a_handshake(nursery: trio.Nursery) -> None:
    random = Random(5)
    member, friend = await start(nursery, "member", club()), await start(nursery, "friend", club())
    await connect(member, friend)
    outsider = Outsider("outsider")
    await nursery.start(outsider.run)
    for size in (0, 1, 36, 40, 300, 70_000):
        await outsider.dial(member)
        stream = await outsider.stream(member, PROTOCOL)
        try:
            await stream.write(random.randbytes(size))
            await stream.close()
        except Exception:  # it may have been cut off
            await trio.lowlevel.checkpoint()
    for body in (b"", b"\x00", b"\x82\x01\x40", random.randbytes(200)):
        await outsider.dial(member)
        stream = await outsider.stream(member, PROTOCOL)
        await write_frame(stream, body, 2.0, lambda: None)
    await until(lambda: member.dropped.get("malformed-handshake", 0) >= 4)
    await everybody_hears(member, friend, says=b"still here, says ")
    assert member.network.statistics().counters.host_restarts == 0
    assert str(outsider.host.swarm.get_peer_id()) not in member.network.connected()


async def test_the_secret_is_changed_while_the_swarm_runs(nursery: trio.Nursery) -> None:
    nodes = [await start(nursery, f"m{number}", club(OLD)) for number in range(3)]
    left_behind = await start(nursery, "left-behind", club(OLD))
    everybody = [*nodes, left_behind]
    for number, node in enumerate(everybody):
        for other in everybody[:number]:
            introduce(node, other)
            await dial(node, other)
    await until(lambda: all(len(node.network.connected()) == 3 for node in everybody))
    events = [len(node.events) for node in nodes]
    for step, ring in enumerate(((OLD, NEW), (NEW, OLD))):
        for number, node in enumerate(nodes):  # one after the other: all mixtures must work
            node.network.rekey(club(*ring))
            await everybody_hears(*nodes, says=b"step %d.%d, says " % (step, number))
    assert [len(node.events) for node in nodes] == events  # no connection was lost
    await until(lambda: any(b"step 0.2" in data for data in left_behind.data()))
    for node in nodes:
        node.network.rekey(club(NEW))
    await until(lambda: not left_behind.network.connected())
    await until(lambda: all(len(node.network.connected()) == 2 for node in nodes), 30)
    await everybody_hears(*nodes, says=b"the new secret, says ")
    await until(lambda: any(node.told(left_behind, "different secrets") for node in nodes))
    assert not any(b"the new secret" in data for data in left_behind.data())


async def test_an_open_network_stays_open(nursery: trio.Nursery) -> None:
    node = await start(nursery, "open", None)
    with pytest.raises(NetworkError, match="open network"):
        node.network.rekey(club())


async def test_denied_peers_are_not_connected_whoever_dials(nursery: trio.Nursery) -> None:
    bad = await start(nursery, "bad", None)
    good = await start(nursery, "good", None)
    node = await start(nursery, "node", None, deny=(bad.peer,))
    introduce(node, bad, good)
    with pytest.raises(NetworkError):
        await dial(node, bad)
    await dial(bad, node)
    await dial(node, good)
    await until(lambda: node.dropped.get("denied", 0) >= 1)
    await until(lambda: good.peer in node.network.connected())
    assert node.network.connected() == {good.peer}
    assert (bad.peer, True) not in node.events
    assert node.network.statistics().known_peers == 1
    with pytest.raises(NetworkError):
        await node.network.request(bad.peer, ECHO, b"x", max_reply=10)
    await dial(bad, good)
    await until(lambda: bad.peer in good.network.connected())
    await bad.network.publish(TOPIC, b"it is heard by way of others")
    await until(lambda: b"it is heard by way of others" in node.data())


async def test_with_an_allow_list_nobody_else_is_connected(nursery: trio.Nursery) -> None:
    friend, other = await start(nursery, "friend", None), await start(nursery, "other", None)
    node = await start(nursery, "node", None, allow=(friend.peer,))
    await dial(other, node)
    await dial(friend, node)
    await until(lambda: node.dropped.get("denied", 0) >= 1 and friend.peer in node.network.connected())
    assert node.network.connected() == {friend.peer}


def test_a_peer_that_is_given_must_not_be_denied() -> None:
    peer = peer_id(bytes(SigningKey(key("x")).verify_key))
    address = f"/ip4/127.0.0.1/tcp/4117/p2p/{peer}"
    for lists in ({"deny": (peer,)}, {"allow": (peer_id(bytes(32)),)}):
        with pytest.raises(ConfigError, match="--deny"):
            NetworkSettings(peers=(address,), **lists).peer_addresses()  # type: ignore[arg-type]


async def test_mdns_tells_addresses_and_nothing_of_the_topic(nursery: trio.Nursery) -> None:
    node = await start(nursery, "node", club())
    record = encode_txt(node.network._announced())
    assert re.fullmatch(rb".dnsaddr=/ip4/127\.0\.0\.1/tcp/\d+/p2p/" + node.peer.encode(), record, re.DOTALL)
