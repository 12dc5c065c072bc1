"""Bitswap between hosts on loopback: honest peers, peers that vanish, and peers that do what they should not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from learnae.errors import NetworkError, StoreError
from learnaed.network import Drop, Limits
from learnaed.network.bitswap import engine, link, wire
from tests.ipfs.dag import Blocks, links_in
from tests.network.support import Attacker, Node, attacker, connect, start, until

PROTOCOL = wire.PROTOCOLS[0]
LEAF = 64 * 1024

Act = Callable[[Any, list[wire.Entry]], Awaitable[None]]


def filled(count: int = 40, size: int = LEAF, seed: int = 1) -> tuple[Blocks, list[bytes]]:
    random, blocks = Random(seed), Blocks()
    return blocks, [blocks.put(random.randbytes(size)) for _ in range(count)]


async def serving(nursery: trio.Nursery, name: str, blocks: Blocks) -> Node:
    node = await start(nursery, name)
    node.network.serve_blocks(blocks)
    return node


async def take(node: Node, peers: list[str], cids: list[bytes], **limits: Any) -> dict[str, Drop]:
    """Fetch all; who was dropped for what."""
    dropped: dict[str, Drop] = {}
    came = []
    with (
        trio.fail_after(30),
        node.network.session(peers, limits=Limits(**limits), on_drop=dropped.__setitem__) as session,
    ):
        async for cid, data in session.fetch(cids):
            assert wire.hash_block(b"", memoryview(data)) == cid[4:]
            came.append(cid)
    assert sorted(came) == sorted(cids)
    return dropped


async def hostile(nursery: trio.Nursery, victim: Node, act: Act, name: str = "enemy") -> str:
    """A donor of a test's own: `act` gets a stream to the victim and the wants of every message. Its peer id."""
    enemy = await attacker(nursery, victim, name)

    async def listen(stream: Any) -> None:
        answer = await enemy.stream(victim, PROTOCOL)
        while True:
            raw = await read_varint_prefixed_bytes_limited(stream, wire.MAX_MESSAGE)
            wants = [entry for entry in wire.parse(raw).wants if not entry.cancel]
            if wants:
                await act(answer, wants)

    enemy.host.streams.set_stream_handler(PROTOCOL, listen)  # type: ignore[arg-type]
    return str(enemy.host.swarm.get_peer_id())


async def say(stream: Any, *parts: bytes) -> None:
    await stream.write(b"".join(wire.framed(list(parts))))


async def listening(enemy: Attacker) -> list[wire.Message]:
    """What a node sends to an attacker, as it comes."""
    heard: list[wire.Message] = []

    async def listen(stream: Any) -> None:
        while True:
            heard.append(wire.parse(await read_varint_prefixed_bytes_limited(stream, wire.MAX_MESSAGE)))

    for protocol in wire.PROTOCOLS:
        enemy.host.streams.set_stream_handler(protocol, listen)  # type: ignore[arg-type]
    return heard


# --- honest peers


async def test_blocks_come_from_all_peers_and_each_comes_once(nursery: trio.Nursery) -> None:
    blocks, cids = filled(200)
    donors = [await serving(nursery, name, blocks) for name in ("a", "b", "c")]
    joiner = await start(nursery, "joiner")
    await connect(*donors, joiner)
    assert await take(joiner, [node.network.peer_id for node in donors], cids) == {}
    assert len(blocks.given) == len(cids)
    sent = [node.network.block_statistics().blocks_sent for node in donors]
    assert sum(sent) == 200 and min(sent) > 20
    total = joiner.network.block_statistics()
    assert (total.blocks_received, total.bytes_received, total.duplicates) == (200, 200 * LEAF, 0)
    assert (total.unwanted, total.malformed, total.sessions) == (0, 0, 0)


async def test_a_dag_unfolds_as_its_nodes_arrive(nursery: trio.Nursery) -> None:
    data = Random(3).randbytes(200 * 256 * 1024 + 5)
    blocks = Blocks()
    root = blocks.put_file(data)
    donor = await serving(nursery, "donor", blocks)
    joiner = await start(nursery, "joiner")
    await connect(donor, joiner)
    order, leaves = [root], {}
    with trio.fail_after(30), joiner.network.session([donor.network.peer_id]) as session:
        async for cid, block in session.fetch([root]):
            session.want(links_in(cid, block))
            leaves[cid] = block
    while any(cid[1] == 0x70 for cid in order):
        order = [child for cid in order for child in (links_in(cid, leaves[cid]) or [cid])]
    assert b"".join(leaves[cid] for cid in order) == data


async def test_both_ways_at_once(nursery: trio.Nursery) -> None:
    left, right = filled(100, seed=1), filled(100, seed=2)
    a, b = await serving(nursery, "a", left[0]), await serving(nursery, "b", right[0])
    await connect(a, b)
    async with trio.open_nursery() as taking:
        taking.start_soon(take, a, [b.network.peer_id], right[1])
        taking.start_soon(take, b, [a.network.peer_id], left[1])


async def test_a_caller_that_takes_nothing_stops_the_flow(nursery: trio.Nursery) -> None:
    blocks, cids = filled(100)
    donor, joiner = await serving(nursery, "donor", blocks), await start(nursery, "joiner")
    await connect(donor, joiner)
    with joiner.network.session([donor.network.peer_id], limits=Limits(held=10 * LEAF)) as session:
        session.want(cids)
        first = await anext(session)
        await until(lambda: session.statistics().held >= 5 * LEAF)
        for _ in range(50):
            await trio.testing.wait_all_tasks_blocked()
            assert session.statistics().held <= 10 * LEAF + 4 * 256 * 1024
        rest = [block async for block in session]
    assert sorted(cid for cid, _ in [first, *rest]) == sorted(cids)


async def test_blocks_of_one_mebibyte_pass_and_larger_ones_are_not_offered(nursery: trio.Nursery) -> None:
    blocks = Blocks()
    largest, beyond = blocks.put(bytes(wire.MAX_BLOCK)), blocks.put(bytes(wire.MAX_BLOCK + 1))
    donor, joiner = await serving(nursery, "donor", blocks), await start(nursery, "joiner")
    await connect(donor, joiner)
    await take(joiner, [donor.network.peer_id], [largest])
    with pytest.raises(NetworkError, match="1 blocks are missing"):
        await take(joiner, [donor.network.peer_id], [beyond], patience=1.0)


async def test_two_sessions_share_what_comes_and_one_does_not_cancel_the_others_wants(nursery: trio.Nursery) -> None:
    blocks, cids = filled(60)
    donor, joiner = await serving(nursery, "donor", blocks), await start(nursery, "joiner")
    await connect(donor, joiner)
    peers = [donor.network.peer_id]
    with trio.fail_after(30), joiner.network.session(peers) as left:
        with joiner.network.session(peers) as right:
            right.want(cids)
            left.want(cids)
            await anext(right)
        came = [cid async for cid, _ in left]
    assert sorted(came) == sorted(cids)
    assert left.statistics().dropped == {}
    assert joiner.network.block_statistics().unwanted == 0


async def test_leaving_a_session_cancels_what_it_wanted(nursery: trio.Nursery) -> None:
    joiner = await start(nursery, "joiner")
    enemy = await attacker(nursery, joiner)
    heard = await listening(enemy)
    _, cids = filled(3)
    with joiner.network.session([str(enemy.host.swarm.get_peer_id())]) as session:
        session.want(cids)
        await until(lambda: heard)
    await until(lambda: len(heard) == 2)
    assert [(entry.cid, entry.cancel) for entry in heard[0].wants] == [(cid, False) for cid in cids]
    assert all(entry.dont_have for entry in heard[0].wants)
    assert sorted((entry.cid, entry.cancel) for entry in heard[1].wants) == sorted((cid, True) for cid in cids)


# --- what a server answers


@pytest.mark.parametrize("protocol", wire.PROTOCOLS)
async def test_answers_come_on_the_servers_own_stream_in_the_askers_version(
    nursery: trio.Nursery, protocol: str
) -> None:
    blocks = Blocks()
    here, absent = blocks.put(b"here", 0x71), Blocks().put(b"absent")
    server = await serving(nursery, "server", blocks)
    enemy = await attacker(nursery, server)
    heard = await listening(enemy)
    for other in wire.PROTOCOLS:
        if other != protocol:
            enemy.host.streams.remove_stream_handler(other)  # type: ignore[arg-type]
    stream = await enemy.stream(server, protocol)
    have = wire.Entry(here, have=True, dont_have=True)
    await say(stream, wire.wantlist([wire.Entry(absent, dont_have=True), have]))
    talks = protocol == PROTOCOL
    if talks:
        await until(lambda: heard)
        assert sorted(heard.pop().presences) == sorted([(here, True), (absent, False)])
    await say(stream, wire.wantlist([wire.Entry(here)]))
    await until(lambda: heard)
    prefix = b"" if protocol == wire.PROTOCOLS[-1] else here[:4]
    assert [(found, bytes(data)) for found, data in heard[0].blocks] == [(prefix, b"here")]
    assert not heard[0].presences


async def test_who_waits_for_a_block_gets_it_when_it_arrives_unless_cancelled(nursery: trio.Nursery) -> None:
    blocks = Blocks()
    cid, other = Blocks().put(b"later"), Blocks().put(b"never mind")
    server = await serving(nursery, "server", blocks)
    enemy = await attacker(nursery, server)
    heard = await listening(enemy)
    stream = await enemy.stream(server, PROTOCOL)
    await say(stream, wire.wantlist([wire.Entry(cid, dont_have=True), wire.Entry(other, dont_have=True)]))
    await until(lambda: heard)
    await say(stream, wire.wantlist([wire.Entry(other, cancel=True), wire.Entry(cid, have=True)]))
    await until(lambda: server.network.block_statistics().wants == 4)
    for block in (b"later", b"never mind"):
        blocks.put(block)
    server.network.blocks_arrived([other, cid])
    await until(lambda: len(heard) == 2)
    assert [bytes(data) for _, data in heard[1].blocks] == [b"later"]


async def test_trouble_with_the_own_disk_does_not_cost_a_donor(nursery: trio.Nursery) -> None:
    class Broken(Blocks):
        async def get(self, cid: bytes) -> bytes | None:
            raise StoreError("the disk cannot be read")

    blocks, cids = filled(50)
    donor, joiner = await serving(nursery, "donor", blocks), await start(nursery, "joiner")
    joiner.network.serve_blocks(Broken())
    await connect(donor, joiner)
    with trio.fail_after(30), donor.network.session([joiner.network.peer_id], limits=Limits(patience=10)) as asking:
        asking.want(filled(2, seed=2)[1])
        assert await take(joiner, [donor.network.peer_id], cids) == {}
        with pytest.raises(NetworkError, match="no peer that is left has them"):
            await anext(asking)
        assert asking.statistics().dropped == {}


# --- peers that vanish


async def test_donors_that_vanish_are_replaced(nursery: trio.Nursery) -> None:
    blocks, cids = filled(400)
    stays, joiner = await serving(nursery, "stays", blocks), await start(nursery, "joiner")
    async with trio.open_nursery() as lives:
        leaves = [await serving(lives, name, blocks) for name in ("x", "y")]
        await connect(stays, *leaves, joiner)
        peers = [node.network.peer_id for node in (stays, *leaves)]
        came = []
        with trio.fail_after(30), joiner.network.session(peers) as session:
            async for cid, _ in session.fetch(cids):
                came.append(cid)
                if len(came) == 50:
                    lives.cancel_scope.cancel()
                    await until(lambda: len(joiner.network.connected()) == 1)
            assert session.statistics().dropped == {}
        assert sorted(came) == sorted(cids)


async def test_a_download_goes_on_when_its_only_donor_is_back(nursery: trio.Nursery) -> None:
    blocks, cids = filled(200)
    joiner = await start(nursery, "joiner")
    came: list[bytes] = []
    with trio.fail_after(60):
        async with trio.open_nursery() as life:
            donor = await serving(life, "donor", blocks)
            await connect(donor, joiner)
            peer = donor.network.peer_id
            session = joiner.network.session([peer]).__enter__()
            session.want(cids)
            came += [(await anext(session))[0] for _ in range(50)]
            life.cancel_scope.cancel()
        await until(lambda: not joiner.network.connected())
        donor = await serving(nursery, "donor", blocks)
        await connect(donor, joiner)
        came += [cid async for cid, _ in session]
        session.__exit__(None, None, None)
    assert sorted(came) == sorted(cids)
    assert session.statistics().duplicates == 0


async def test_a_session_survives_a_restart_of_the_own_host(nursery: trio.Nursery) -> None:
    blocks, cids = filled(200)
    donor, joiner = await serving(nursery, "donor", blocks), await start(nursery, "joiner")
    await connect(donor, joiner)
    host = joiner.network._host
    assert host is not None

    async def crash() -> None:
        raise RuntimeError("the test's own")

    came = []
    with trio.fail_after(60), joiner.network.session([donor.network.peer_id]) as session:
        async for cid, _ in session.fetch(cids):
            came.append(cid)
            if len(came) == 20:
                host.gossip.manager.run_task(crash)
                await until(lambda: joiner.network._host not in (host, None))
                joiner.network.learn_addresses(donor.network.peer_id, donor.network.addresses)
    assert sorted(came) == sorted(cids)


async def test_nobody_who_has_it_is_an_error_that_says_so(nursery: trio.Nursery) -> None:
    donor, joiner = await serving(nursery, "donor", Blocks()), await start(nursery, "joiner")
    await connect(donor, joiner)
    _, cids = filled(2)
    with pytest.raises(NetworkError, match=r"2 blocks are missing .* 1 are connected"):
        await take(joiner, [donor.network.peer_id], cids, patience=1.0)


async def test_a_peer_without_bitswap_is_dropped(nursery: trio.Nursery) -> None:
    blocks, cids = filled(10)
    donor, joiner = await serving(nursery, "donor", blocks), await start(nursery, "joiner")
    await connect(donor, joiner)
    mute = await attacker(nursery, joiner, "mute")
    peer = str(mute.host.swarm.get_peer_id())
    dropped: dict[str, Drop] = {}
    with trio.fail_after(30), joiner.network.session([peer], on_drop=dropped.__setitem__) as session:
        session.want(cids)
        await until(lambda: dropped == {peer: Drop.REFUSED})
        session.add(donor.network.peer_id)
        assert len([block async for block in session]) == 10


# --- hostile peers


async def lie(stream: Any, wants: list[wire.Entry]) -> None:
    for entry in wants:
        await say(stream, *wire.block_parts(entry.cid, entry.cid[::-1] * 100, PROTOCOL))


async def push(stream: Any, wants: list[wire.Entry]) -> None:
    for number in range(10):
        await say(stream, *wire.block_parts(wants[0].cid, b"nobody asked for this %d" % number, PROTOCOL))


async def garbage(stream: Any, wants: list[wire.Entry]) -> None:
    await stream.write(b"\x30" + Random(5).randbytes(0x30))


async def endless_number(stream: Any, wants: list[wire.Entry]) -> None:
    await stream.write(b"\xff" * 20)


async def huge(stream: Any, wants: list[wire.Entry]) -> None:
    await stream.write(wire.varint(100_000_000) + bytes(1000))


async def empties(stream: Any, wants: list[wire.Entry]) -> None:
    await say(stream, b"\x1a\x00" * 200_000)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lie, Drop.LIED),
        (push, Drop.LIED),
        (garbage, Drop.GARBAGE),
        (endless_number, Drop.GARBAGE),
        (huge, Drop.GARBAGE),
        (empties, Drop.GARBAGE),
    ],
)
async def test_a_hostile_donor_is_dropped_and_the_download_completes(
    nursery: trio.Nursery, act: Act, reason: Drop
) -> None:
    blocks, cids = filled(100)
    joiner = await start(nursery, "joiner")
    donor = await serving(nursery, "donor", blocks)
    await connect(donor, joiner)
    enemy = await hostile(nursery, joiner, act)
    dropped: dict[str, Drop] = {}
    came = []
    with trio.fail_after(30), joiner.network.session([enemy], on_drop=dropped.__setitem__) as session:
        session.want(cids)
        await until(lambda: dropped == {enemy: reason})
        session.add(donor.network.peer_id)
        came = [cid async for cid, _ in session]
    assert sorted(came) == sorted(cids)
    assert joiner.network.statistics().counters.host_restarts == 0
    await until(lambda: (enemy in joiner.network.connected()) == (reason is Drop.LIED))


async def test_a_donor_that_stops_within_a_block_is_too_slow(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def half(stream: Any, wants: list[wire.Entry]) -> None:
        whole = b"".join(wire.framed([*wire.block_parts(wants[0].cid, blocks.held[wants[0].cid[4:]], PROTOCOL)]))
        await stream.write(whole[: len(whole) // 2])

    monkeypatch.setattr(link, "STALL", 1.0)
    blocks, cids = filled(40)
    joiner, donor = await start(nursery, "joiner"), await serving(nursery, "donor", blocks)
    await connect(donor, joiner)
    enemy = await hostile(nursery, joiner, half)
    dropped = await take(joiner, [enemy, donor.network.peer_id], cids, grace=2.0, slowest=1e6)
    assert dropped in ({}, {enemy: Drop.SLOW})  # the other peer may have been quick enough to do it all
    await until(lambda: not any(link._deadlines for link in joiner.network._bitswap._links.values()))
    assert joiner.network.block_statistics().malformed == 0


async def test_streams_that_are_half_closed_midway_do_no_harm(nursery: trio.Nursery) -> None:
    blocks, cids = filled(10)
    server, friend = await serving(nursery, "server", blocks), await start(nursery, "friend")
    await connect(server, friend)
    enemy = await attacker(nursery, server)
    for cut in range(0, 40, 4):
        stream = await enemy.stream(server, PROTOCOL)
        await stream.write(b"".join(wire.framed([wire.wantlist([wire.Entry(cids[0])])]))[:cut])
        await stream.close()
    assert await take(friend, [server.network.peer_id], cids) == {}
    assert server.network.block_statistics().malformed == 0


async def test_unwanted_blocks_are_counted_and_a_flood_of_them_costs_the_connection(nursery: trio.Nursery) -> None:
    victim = await start(nursery, "victim")
    enemy = await attacker(nursery, victim)
    stream = await enemy.stream(victim, PROTOCOL)
    head, data = wire.block_parts(Blocks().put(b""), bytes(200_000), PROTOCOL)
    for _ in range(engine.MAX_UNWANTED // 200_000 + 1):
        await say(stream, head, data)
    await until(lambda: not victim.network.connected())
    total = victim.network.block_statistics()
    assert total.unwanted_bytes == total.unwanted * 200_000 > engine.MAX_UNWANTED
    assert total.blocks_received == 0
    assert victim.dropped["unwanted-blocks"] == 1


async def test_a_stranger_may_not_send_large_messages(nursery: trio.Nursery) -> None:
    victim = await start(nursery, "victim")
    enemy = await attacker(nursery, victim)
    stream = await enemy.stream(victim, PROTOCOL)
    await stream.write(wire.varint(link.MAX_UNASKED + 1))
    await until(lambda: not victim.network.connected())
    assert victim.dropped["malformed-bitswap"] == 1


async def test_a_flood_of_wants_is_slowed_down_and_friends_are_served(nursery: trio.Nursery) -> None:
    blocks, cids = filled(50)
    victim, friend = await serving(nursery, "victim", blocks), await start(nursery, "friend")
    await connect(victim, friend)
    enemy = await attacker(nursery, victim)
    heard = await listening(enemy)
    stream = await enemy.stream(victim, PROTOCOL)
    _, others = filled(4000, size=8, seed=9)
    for _ in range(5):
        await say(stream, wire.wantlist([wire.Entry(cid, dont_have=True) for cid in others]))
    await until(lambda: victim.dropped.get("want-flood", 0) >= 1)
    assert await take(friend, [victim.network.peer_id], cids) == {}
    await until(lambda: heard)
    assert victim.network.block_statistics().refused_wants >= 2 * (4000 - 1024)


async def test_a_donor_may_send_each_block_on_a_stream_of_its_own(nursery: trio.Nursery) -> None:
    """Kubo does, eight at once."""
    blocks, cids = filled(40)
    joiner = await start(nursery, "joiner")
    enemy = await attacker(nursery, joiner)

    async def send(wants: list[wire.Entry]) -> None:
        for entry in wants:
            stream = await enemy.stream(joiner, PROTOCOL)
            await say(stream, *wire.block_parts(entry.cid, blocks.held[entry.cid[4:]], PROTOCOL))
            await stream.close()

    async def listen(stream: Any) -> None:
        while True:
            raw = await read_varint_prefixed_bytes_limited(stream, wire.MAX_MESSAGE)
            wants = [entry for entry in wire.parse(raw).wants if not entry.cancel]
            for worker in range(8):
                nursery.start_soon(send, wants[worker::8])

    enemy.host.streams.set_stream_handler(PROTOCOL, listen)  # type: ignore[arg-type]
    assert await take(joiner, [str(enemy.host.swarm.get_peer_id())], cids) == {}
    assert joiner.dropped.get("too-many-streams", 0) == 0


async def test_few_messages_of_a_peer_are_in_memory_at_once(nursery: trio.Nursery) -> None:
    victim = await start(nursery, "victim")
    enemy = await attacker(nursery, victim)
    streams = [await enemy.stream(victim, PROTOCOL) for _ in range(link.MAX_READ + 3)]
    wants = [wire.Entry(cid, dont_have=True) for cid in filled(1000, size=8)[1]]
    message = b"".join(wire.framed([wire.wantlist(wants)]))
    for stream in streams:
        await stream.write(message[:-1])
    [known] = victim.network._bitswap._links.values()
    await until(lambda: known.room.statistics().tasks_waiting == 3)
    for stream in streams:
        await stream.write(message[-1:])
    await until(lambda: victim.network.block_statistics().wants == 1000 * len(streams))
    assert known.room.value == link.MAX_READ


async def test_too_many_streams_are_refused(nursery: trio.Nursery) -> None:
    victim = await start(nursery, "victim")
    enemy = await attacker(nursery, victim)
    for _ in range(engine.MAX_INBOUND + 2):
        stream = await enemy.stream(victim, PROTOCOL)
        await say(stream, wire.wantlist([]))
    await until(lambda: victim.dropped.get("too-many-streams") == 2)


async def test_a_reader_that_takes_nothing_loses_its_connection(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "STALL", 1.0)
    blocks, cids = filled(100)
    victim = await serving(nursery, "victim", blocks)
    enemy = await attacker(nursery, victim)

    async def ignore(stream: Any) -> None:
        await trio.sleep_forever()

    enemy.host.streams.set_stream_handler(PROTOCOL, ignore)  # type: ignore[arg-type]
    stream = await enemy.stream(victim, PROTOCOL)
    await say(stream, wire.wantlist([wire.Entry(cid) for cid in cids]))
    await until(lambda: victim.network.block_statistics().blocks_sent > 0)
    await until(lambda: not victim.network.connected())
    assert victim.network.block_statistics().blocks_sent < 50
