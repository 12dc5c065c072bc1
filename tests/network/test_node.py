"""The life of a network: starting, meeting, losing each other, restarting, ending."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import trio

from learnae.errors import NetworkError
from learnaed.network import Network, NetworkSettings
from learnaed.network.addresses import Address
from learnaed.network.discovery import decode_txt, encode_txt
from learnaed.network.host import socket_of
from tests.network.support import LOOPBACK, Node, attacker, connect, key, make, run, start, until

TOPIC = "/learnae/1/test/peers"


@pytest.mark.parametrize("count", [2, 4, pytest.param(8, marks=pytest.mark.slow)])
async def test_all_started_at_once_become_one_swarm_by_mdns(nursery: trio.Nursery, count: int) -> None:
    nodes = [make(f"mdns-{number}", mdns=True) for number in range(count)]
    for node in nodes:
        node.listen_to(TOPIC)
        nursery.start_soon(run, node.network)
    everybody = {node.network.peer_id for node in nodes}  # other nodes on this machine may be found as well
    await until(lambda: all(everybody - {node.network.peer_id} <= node.network.connected() for node in nodes), 40)
    for number, node in enumerate(nodes):
        await node.network.publish(TOPIC, bytes([number]))
    await until(lambda: all(len(node.messages) == count - 1 for node in nodes))


async def test_a_restart_at_another_port_is_noticed_by_mdns(nursery: trio.Nursery) -> None:
    stays = await start(nursery, "stays", mdns=True)
    ports = set()
    peer = make("comes").network.peer_id
    for _ in range(2):
        async with trio.open_nursery() as life:
            comes = await start(life, "comes", mdns=True)
            ports.add(comes.network.addresses)
            await until(lambda: peer in stays.network.connected())
            life.cancel_scope.cancel()
        await until(lambda: peer not in stays.network.connected())
    assert len(ports) == 2
    assert [up for other, up in stays.events if other == peer] == [True, False, True, False]


async def test_both_dialling_at_once_end_connected(nursery: trio.Nursery) -> None:
    a, b = await start(nursery, "a", TOPIC), await start(nursery, "b", TOPIC)
    async with trio.open_nursery() as dialling:
        for one, other in ((a, b), (b, a)):
            dialling.start_soon(one.network._dial, Address.parse(other.network.addresses[0]))
    await connect(a, b)
    await a.network.publish(TOPIC, b"hello")
    await until(lambda: b.data() == [b"hello"])
    assert a.events == [(b.network.peer_id, True)]


async def test_given_and_remembered_peers_are_found_whenever_they_come(nursery: trio.Nursery) -> None:
    async with trio.open_nursery() as life:
        early = await start(life, "late")
        address = early.network.addresses[0]
        life.cancel_scope.cancel()
    given = await start(nursery, "given", peers=(address,))
    remembers = Node(Network(key("r"), NetworkSettings(listen=LOOPBACK, mdns=False), on_peer=lambda *_: None,
                             remembered=[address, "nonsense"]))  # fmt: skip
    await nursery.start(run, remembers.network)
    await until(lambda: given.network.statistics().counters.dial_failures > 0)
    late = await start(nursery, "late", listen=(address.rpartition("/p2p/")[0],))
    await until(lambda: len(late.network.connected()) == 2)
    assert given.network.known_addresses() == {late.network.peer_id: [address]}


async def test_nobody_dials_itself(nursery: trio.Nursery) -> None:
    node = await start(nursery, "a")
    node.network.learn_addresses(node.network.peer_id, node.network.addresses)
    assert node.network.statistics().known_peers == 0
    with pytest.raises(NetworkError):
        await node.network._dial(Address.parse(node.network.addresses[0]))
    assert node.events == []


async def test_a_taken_port_is_replaced_by_a_free_one(nursery: trio.Nursery) -> None:
    first = await start(nursery, "first")
    listen = (first.network.addresses[0].rpartition("/p2p/")[0],)
    second = await start(nursery, "second", listen=listen)
    assert Address.parse(second.network.addresses[0]).port != Address.parse(first.network.addresses[0]).port
    with pytest.raises(NetworkError, match="--listen"):
        await make("third", listen=("/ip4/192.0.2.1/tcp/0",)).network.run()


async def test_a_crash_of_the_host_is_survived_with_peers_topics_and_port(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = await start(nursery, "a", TOPIC), await start(nursery, "b", TOPIC)
    await connect(a, b)
    address = a.network.addresses

    async def crash() -> None:
        raise RuntimeError("the test's own")

    a.network._host.gossip.manager.run_task(crash)  # type: ignore[union-attr]
    await until(lambda: a.network.statistics().counters.host_restarts == 1 and a.network.connected())
    assert a.network.addresses == address
    # Until it has noticed the crash itself, it would send to the connection that is gone.
    await until(lambda: b.events == [(a.network.peer_id, up) for up in (True, False, True)])
    await until(lambda: len(b.network._host.gossip.peer_topics.get(TOPIC, ())) == 1)  # type: ignore[union-attr]
    await b.network.publish(TOPIC, b"after the crash")
    await until(lambda: a.data() == [b"after the crash"])
    assert a.events == [(b.network.peer_id, up) for up in (True, False, True)]
    assert "the test's own" in caplog.text


async def test_a_silent_connection_is_pinged_then_closed(nursery: trio.Nursery) -> None:
    node = await start(nursery, "a", ping_after=0.5, dead_after=3.0)
    other = await attacker(nursery, node)
    [connection] = node.network._host.swarm.live()  # type: ignore[union-attr]
    socket = socket_of(connection.muxed_conn)
    last = socket.last_received
    await until(lambda: socket.last_received > last + 1.0)  # nothing but pings is said
    [theirs] = other.host.swarm.live()

    async def stop_reading(n: int | None = None) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    socket_of(theirs.muxed_conn).read = stop_reading  # type: ignore[method-assign]
    await until(lambda: not node.network.connected(), seconds=20)
    assert node.dropped["silent-connection"] == 1


async def test_inbound_slots_are_given_back(nursery: trio.Nursery) -> None:
    node = await start(nursery, "a", max_connections=3)
    for number in range(6):
        async with trio.open_nursery() as life:
            await attacker(life, node, f"visitor {number}")
            await until(lambda: len(node.network.connected()) == 1)
            life.cancel_scope.cancel()
        await until(lambda: not node.network.connected())
    assert len(node.events) == 12


async def test_bytes_are_counted_on_the_wire(nursery: trio.Nursery) -> None:
    a, b = await start(nursery, "a", TOPIC), await start(nursery, "b", TOPIC)
    await connect(a, b)
    await a.network.publish(TOPIC, bytes(50_000))
    await until(lambda: b.messages)
    one, other = a.network.statistics(), b.network.statistics()
    assert 50_000 < one.counters.bytes_sent < 60_000
    assert 50_000 < other.counters.bytes_received <= one.counters.bytes_sent
    assert one.peers == other.peers == one.connections == 1


async def test_it_ends_within_a_second_and_leaves_no_thread() -> None:
    async with trio.open_nursery() as nursery:
        nodes = [await start(nursery, name, TOPIC, mdns=True) for name in "abcd"]
        await until(lambda: all(len(node.network.connected()) >= 3 for node in nodes))
        ended = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - ended < 1.0
    assert nodes[0].network.connected() == frozenset()
    # trio's own worker threads wait a while for more work
    assert [t.name for t in threading.enumerate() if "zeroconf" in t.name.lower()] == []


def test_discovery_records_round_trip_and_survive_garbage() -> None:
    peer = make("a").network.peer_id
    addresses = [Address("ip4", "192.0.2.7", port, peer) for port in (1, 2)]
    record = encode_txt(addresses)
    assert decode_txt(record) == addresses
    assert decode_txt(b"\xff" + record) == []
    assert decode_txt(record + b"\x05hello\x00\xff") == addresses
    assert decode_txt(encode_txt([addresses[0].of(None)])) == []


def test_only_the_needed_part_of_libp2p_is_imported() -> None:
    heavy = ("aioquic", "coincurve", "dns", "httpx", "miniupnpc", "requests", "torch", "numpy")
    script = f"import sys, learnaed.network; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
