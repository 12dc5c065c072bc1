"""What this node knows of the others on the topic, from their heartbeats; used by the coordinator and the status."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, KeysView, Sequence
from dataclasses import dataclass, field

from learnae.genesis import Genesis
from learnae.wire import CutId, Heartbeat, Opinion

MAX_PEERS = 4096
MAX_STRIKES = 3
WORKING = ("training", "alone")
"""States in which a node makes local steps."""
_FORGOTTEN = 128


@dataclass(slots=True)
class Peer:
    """One other node."""

    key: bytes
    connected: bool = False
    heartbeat: Heartbeat | None = None
    heard: float = 0.0
    """When its last heartbeat came, by the own clock."""
    differences: list[str] = field(default_factory=list)
    """Why its updates cannot be added to ours, if so."""
    compared: bytes | None = None
    """The swarm that it trained when `differences` was last looked at."""
    asked_genesis: float = -1e9
    """When its genesis was asked for last."""
    genesis: Genesis | None = None
    """What it trains, if it was asked."""
    said: float = -math.inf
    """The time in the last heartbeat that was believed; older ones are echoes."""
    left: bool = False
    """It has said goodbye."""
    ahead: float = 0.0
    """Seconds by which its clock seemed to be ahead of ours when its last heartbeat came."""
    misdated: bool = False
    """The user knows that its clock and ours are far apart."""
    forked: bool = False
    """It has signed two updates for one slot, or under one number."""

    among: Members | None = None
    """Where it is counted, while it is there,"""
    opinion: Opinion | None = None
    """under which opinion,"""
    rate: float | None = None
    """and with how many samples a second, if it is at work."""

    strikes: int = 0
    """Lies told in answers; at `MAX_STRIKES` it is asked for nothing for a while."""
    banned_until: float = 0.0

    def strike(self, now: float, ban: float) -> bool:
        """It has answered with something else than was asked for; whether that was once too often."""
        self.strikes += 1
        if self.strikes < MAX_STRIKES:
            return False
        self.strikes, self.banned_until = 0, now + ban
        return True

    def can_be_asked(self, now: float) -> bool:
        """Whether it is connected, and has not lied too often."""
        return self.connected and now >= self.banned_until

    def cuts(self) -> tuple[CutId, ...]:
        """All cuts that it attests."""
        return (*self.heartbeat.settled, *self.heartbeat.cuts) if self.heartbeat is not None else ()

    def attests(self, cut: CutId) -> bool:
        """Whether it holds this cut."""
        return self.heartbeat is not None and cut in self.heartbeat.opinion.attested

    def is_echo(self, beat: Heartbeat, now: float) -> bool:
        """Whether this heartbeat, validly signed, is one from before: somebody repeats what the peer said long ago.

        A peer that was silent for a while may come back with an earlier time if its clock was ahead of ours.
        """
        corrected = self.heartbeat is None and self.said > now
        return beat.time <= self.said and not corrected

    def hear(self, beat: Heartbeat, now: float) -> None:
        """Its newest heartbeat has come."""
        self.heartbeat = beat
        self.heard = now
        self.said = beat.time
        self.ahead = beat.time - now
        self.left = beat.state == "leaving"


Opinions = Sequence[tuple[Opinion, set[bytes]]]
"""Who is of which opinion, by key."""


def opinions(peers: Iterable[Peer]) -> Opinions:
    """The opinions of these peers."""
    found: dict[Opinion, set[bytes]] = {}
    for peer in peers:
        if peer.heartbeat is not None:
            found.setdefault(peer.heartbeat.opinion, set()).add(peer.key)
    return list(found.items())


class Members:
    """Nodes that train the same model, in the order in which they were heard of last. What they attest is looked at by
    opinion, of which there are few."""

    def __init__(self) -> None:
        self._peers: dict[bytes, Peer] = {}
        self._opinions: dict[Opinion, set[bytes]] = {}
        self.rates: list[float] = []
        """Samples a second of those at work, ascending."""

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    @property
    def keys(self) -> KeysView[bytes]:
        """Their keys."""
        return self._peers.keys()

    @property
    def opinions(self) -> Opinions:
        """Their opinions."""
        return list(self._opinions.items())

    def add(self, peer: Peer) -> None:
        """This one was heard of just now."""
        self._peers[peer.key] = peer
        if peer.heartbeat is not None:
            peer.rate = self._at_work(peer.heartbeat)
            if peer.rate is not None:
                insort(self.rates, peer.rate)
            opinion = peer.opinion = peer.heartbeat.opinion
            if opinion in self._opinions:
                self._opinions[opinion].add(peer.key)
            else:
                self._opinions[opinion] = {peer.key}

    def refresh(self, peer: Peer) -> None:
        """This one was heard of again, and says what it said before."""
        del self._peers[peer.key]
        self._peers[peer.key] = peer

    def remove(self, peer: Peer) -> None:
        """It is no longer there, or is about to be added anew."""
        del self._peers[peer.key]
        if peer.rate is not None:
            del self.rates[bisect_left(self.rates, peer.rate)]
            peer.rate = None
        if peer.opinion is not None:
            keys = self._opinions[peer.opinion]
            keys.remove(peer.key)
            if not keys:
                del self._opinions[peer.opinion]
            peer.opinion = None

    @staticmethod
    def _at_work(beat: Heartbeat) -> float | None:
        return beat.rate if beat.state in WORKING else None

    def silent(self, since: float) -> list[Peer]:
        """Those that were not heard of since then."""
        found = []
        for peer in self._peers.values():
            if peer.heard >= since:
                break
            found.append(peer)
        return found

    def attesting(self, cut: CutId) -> set[bytes]:
        """Who holds this cut."""
        return set().union(*(keys for opinion, keys in self._opinions.items() if cut in opinion.attested))

    def claiming(self, cut: CutId) -> set[bytes]:
        """Who saw a majority for this cut."""
        return set().union(*(keys for opinion, keys in self._opinions.items() if cut in opinion.settled))


_NOBODY = Members()


class PeerTable:
    """All other nodes, bounded: those not heard of for longest make room.

    Who is there is not looked up but kept, by swarm: with a thousand peers something happens all the time.
    """

    def __init__(self) -> None:
        self._peers: dict[bytes, Peer] = {}
        self._connected: dict[bytes, Peer] = {}
        self._swarms: dict[bytes | None, Members] = {}
        """Those that are there, by what they train."""
        self._gone: list[Peer] = []
        """Those that have left, or fallen silent, since `departed` was asked."""

    def get(self, key: bytes) -> Peer:
        """The peer with this key, new if need be."""
        peer = self._peers.get(key)
        if peer is None:
            if len(self._peers) >= MAX_PEERS:
                self._make_room()
            peer = self._peers[key] = Peer(key)
        return peer

    def _make_room(self) -> None:
        """Forget some at once: to look for the one to go takes as long."""
        others = (peer for peer in self._peers.values() if not peer.connected)
        for peer in heapq.nsmallest(_FORGOTTEN, others, key=lambda peer: peer.heard):
            self._take_out(peer)
            del self._peers[peer.key]

    @property
    def connected(self) -> list[Peer]:
        """Those to which there is a connection."""
        return list(self._connected.values())

    def connect(self, key: bytes, *, connected: bool) -> None:
        """A connection to this peer has come up, or the last one is gone."""
        peer = self.get(key)
        peer.connected = connected
        if connected:
            self._connected[key] = peer
        else:
            self._connected.pop(key, None)

    def hear(self, peer: Peer, beat: Heartbeat, now: float) -> None:
        """A newest heartbeat of this peer has come."""
        before, members = peer.heartbeat, peer.among
        if (
            before is not None
            and members is not None
            and peer.opinion is beat.opinion
            and before.state == beat.state
            and before.rate == beat.rate
            and before.swarm == beat.swarm
        ):
            peer.hear(beat, now)
            members.refresh(peer)
            return
        self._take_out(peer)
        peer.hear(beat, now)
        if peer.left:
            self._gone.append(peer)
            return
        members = self._swarms.get(beat.swarm)
        if members is None:
            members = self._swarms[beat.swarm] = Members()
        members.add(peer)
        peer.among = members

    def _take_out(self, peer: Peer) -> None:
        if peer.among is not None:
            peer.among.remove(peer)
            peer.among = None

    def has_left(self, key: bytes) -> bool:
        """Whether this node has said goodbye."""
        peer = self._peers.get(key)
        return peer is not None and peer.left

    def __contains__(self, key: bytes) -> bool:
        return key in self._peers

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers.values()))

    def members(self, swarm: bytes | None, now: float, expiry: float) -> Members:
        """Live peers that train the same model; valid until the next event."""
        self._expire(now, expiry)
        return self._swarms.get(swarm, _NOBODY) if swarm is not None else _NOBODY

    def strangers(self, swarm: bytes | None, now: float, expiry: float) -> list[tuple[bytes | None, Members]]:
        """Live peers that train something else, or nothing yet, by what they train."""
        self._expire(now, expiry)
        return [(other, members) for other, members in self._swarms.items() if swarm is None or other != swarm]

    def departed(self, now: float, expiry: float) -> list[Peer]:
        """Those that have left, or fallen silent, since this was asked last."""
        self._expire(now, expiry)
        gone = [peer for peer in self._gone if peer.among is None and peer.heartbeat is not None]
        self._gone.clear()
        return gone

    def _expire(self, now: float, expiry: float) -> None:
        for swarm, members in list(self._swarms.items()):
            for peer in members.silent(now - expiry):
                self._take_out(peer)
                self._gone.append(peer)
            if not members:
                del self._swarms[swarm]
