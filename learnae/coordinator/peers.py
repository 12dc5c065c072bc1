"""What this node knows of the others on the topic, from their heartbeats; used by the coordinator and the status."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from learnae.genesis import Genesis
from learnae.wire import CutId, Heartbeat, Opinion

MAX_PEERS = 4096
MAX_STRIKES = 3


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

    def live(self, now: float, expiry: float) -> bool:
        """Whether it was heard of recently and has not said goodbye."""
        return self.heartbeat is not None and self.heartbeat.state != "leaving" and now - self.heard <= expiry


Opinions = Sequence[tuple[Opinion, set[bytes]]]
"""Who is of which opinion, by key."""


class Members(list[Peer]):
    """Nodes that train the same model. What they attest is looked at by opinion, of which there are few."""

    @cached_property
    def opinions(self) -> Opinions:
        """Their opinions."""
        found: dict[Opinion, set[bytes]] = {}
        for peer in self:
            if peer.heartbeat is not None:
                opinion = peer.heartbeat.opinion
                if opinion in found:
                    found[opinion].add(peer.key)
                else:
                    found[opinion] = {peer.key}
        return list(found.items())

    @cached_property
    def keys(self) -> frozenset[bytes]:
        """Their keys."""
        return frozenset(peer.key for peer in self)

    def attesting(self, cut: CutId) -> set[bytes]:
        """Who holds this cut."""
        return set().union(*(keys for opinion, keys in self.opinions if cut in opinion.attested))

    def claiming(self, cut: CutId) -> set[bytes]:
        """Who saw a majority for this cut."""
        return set().union(*(keys for opinion, keys in self.opinions if cut in opinion.settled))


class PeerTable:
    """All other nodes, bounded: the one not heard of for longest makes room."""

    def __init__(self) -> None:
        self._peers: dict[bytes, Peer] = {}
        self.connections = 0
        """To how many of them there is a connection."""
        self._known: tuple[object, Members, Members] | None = None

    def get(self, key: bytes) -> Peer:
        """The peer with this key, new if need be."""
        peer = self._peers.get(key)
        if peer is None:
            if len(self._peers) >= MAX_PEERS:
                stale = min((p for p in self._peers.values() if not p.connected), key=lambda p: p.heard, default=None)
                if stale is not None:
                    del self._peers[stale.key]
                    self.changed()
            peer = self._peers[key] = Peer(key)
        return peer

    def connect(self, key: bytes, *, connected: bool) -> None:
        """A connection to this peer has come up, or the last one is gone."""
        peer = self.get(key)
        self.connections += connected - peer.connected
        peer.connected = connected

    def has_left(self, key: bytes) -> bool:
        """Whether this node has said goodbye."""
        peer = self._peers.get(key)
        return peer is not None and peer.left

    def __contains__(self, key: bytes) -> bool:
        return key in self._peers

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers.values()))

    def changed(self) -> None:
        """A heartbeat has come, or the clock was set: who is there has to be looked at again."""
        self._known = None

    def members(self, swarm: bytes | None, now: float, expiry: float) -> Members:
        """Live peers that train the same model."""
        return self._look(swarm, now, expiry)[0]

    def strangers(self, swarm: bytes | None, now: float, expiry: float) -> Members:
        """Live peers that train something else."""
        return self._look(swarm, now, expiry)[1]

    def _look(self, swarm: bytes | None, now: float, expiry: float) -> tuple[Members, Members]:
        question = (swarm, now, expiry)
        if self._known is None or self._known[0] != question:
            members, strangers = Members(), Members()
            for peer in self._peers.values():
                beat = peer.heartbeat
                if beat is None or now - peer.heard > expiry or beat.state == "leaving":
                    continue
                (members if swarm is not None and beat.swarm == swarm else strangers).append(peer)
            self._known = question, members, strangers
        return self._known[1:]
