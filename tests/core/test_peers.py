"""Who is there, kept as things happen, is what looking at everybody would say."""

from __future__ import annotations

import math
import random

from learnae.coordinator import peers
from learnae.coordinator.peers import WORKING, Peer, PeerTable, opinions
from learnae.wire import CutId, Heartbeat

EXPIRY = 8.0


def beat(draw: random.Random, time: float) -> Heartbeat:
    return Heartbeat(
        time=time,
        state=draw.choice(["joining", "training", "alone", "leaving"]),
        swarm=draw.choice([None, b"a" * 32, b"b" * 32]),
        layout=None,
        digest=bytes(16),
        updates=0,
        rate=float(draw.choice([0, 1, 2])),
        settled=tuple(CutId(i, bytes([i]) * 36) for i in range(draw.randrange(3))),
        cuts=(),
        floor=-1,
        addresses=(),
        agent="test",
    )


def live(peer: Peer, now: float) -> bool:
    return peer.heartbeat is not None and not peer.left and now - peer.heard <= EXPIRY


def test_members_are_those_who_were_heard_of_lately_and_have_not_left() -> None:
    draw, table, now = random.Random(1), PeerTable(), 0.0
    keys = [bytes([n]) * 32 for n in range(12)]
    gone: set[bytes] = set()
    for _ in range(3000):
        now += draw.expovariate(1.0)
        peer = table.get(draw.choice(keys))
        table.hear(peer, beat(draw, now), now)
        if draw.random() < 0.1:
            departed = table.departed(now, EXPIRY)
            assert {p.key for p in departed} == {p.key for p in table if p.heartbeat is not None and not live(p, now)}
            for lost in departed:
                lost.heartbeat = None
                gone.add(lost.key)
        for swarm in (b"a" * 32, b"b" * 32):
            there = [p for p in table if live(p, now) and p.heartbeat is not None and p.heartbeat.swarm == swarm]
            members = table.members(swarm, now, EXPIRY)
            assert {p.key for p in members} == set(members.keys) == {p.key for p in there}
            assert dict(members.opinions) == dict(opinions(there))
            assert members.rates == sorted(
                p.heartbeat.rate for p in there if p.heartbeat and p.heartbeat.state in WORKING
            )
            others = {p.key for _, found in table.strangers(swarm, now, EXPIRY) for p in found}
            assert others == {p.key for p in table if live(p, now)} - set(members.keys)
    assert gone == set(keys)
    assert not table.members(None, now, EXPIRY)
    assert not table.members(b"a" * 32, math.inf, EXPIRY)


def test_a_full_table_forgets_those_not_heard_of_for_longest_and_nobody_connected() -> None:
    draw, table = random.Random(2), PeerTable()
    keys = [n.to_bytes(32) for n in range(peers.MAX_PEERS + 1)]
    table.connect(keys[0], connected=True)
    for n, key in enumerate(keys):
        table.hear(table.get(key), beat(draw, float(n)), float(n))
    known = {peer.key for peer in table}
    assert keys[0] in known and keys[-1] in known and keys[1] not in known
    assert len(known) <= peers.MAX_PEERS
    members = table.members(b"a" * 32, float(len(keys)), math.inf)
    assert set(members.keys) <= known
    assert [peer.key for peer in table.connected] == [keys[0]]
