"""Who is connected with whom, and what they ask each other; partitions. Used by the nodes, and by gossip above it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from learnae.coordinator import events
from netsim.sim import links
from netsim.sim.agenda import Agenda
from netsim.sim.links import Line

CONNECTIONS = 40
"""Most connections that a node looks for, as the daemon's `max_connections`; among fewer nodes all are connected."""
_DIALS = CONNECTIONS // 2
_FEW = CONNECTIONS // 4
"""With fewer connections than this a node dials others."""
_DIAL = 0.5
"""Seconds from the wish for a connection to dialling."""
_DEAD = 18.0
"""Seconds after which a peer that is silent counts as gone, as the daemon's `dead_after`."""
_STUCK = 10.0
"""Seconds until an exchange without an answer is given up."""


@dataclass(eq=False, slots=True)
class Fate:
    """What becomes of a message in the inboxes that it has reached."""

    void: float = math.inf
    """From when on a newer heartbeat of the same author lies in all of them: then this one need not be read."""


Letter = tuple[float, events.Event, Fate]
"""When it came, what it says, and whether that still matters."""


class Member(Protocol):
    """What the network needs of a node."""

    place: int
    author: bytes
    gone: bool
    inbox: list[Letter]

    def handle(self, event: events.Event) -> None:
        """Something happened."""


A = TypeVar("A")
N = TypeVar("N", bound=Member)


class Network:
    """The lines of all places, and the connections between those that are there.

    Args:
        agenda: the virtual clock.
        lines: one for each place.
    """

    def __init__(self, agenda: Agenda, lines: list[Line]) -> None:
        self.agenda = agenda
        self.lines = lines
        self.online: dict[int, Member] = {}
        self.peers: dict[int, dict[int, None]] = {}
        """Places with which each place is connected, in a fixed order."""
        self.lossless = False
        """No more faults: the run is in its quiet end."""
        self.lost = 0.0
        """Bytes that were sent and never received."""
        self.changes = 0
        """How often connections came or went,"""
        self.crowds = 0
        """and how often somebody found a first connection, or was gone."""
        self.degree = 0
        """Neighbours in a node's mesh, over which messages are passed on,"""
        self.published = 0
        """and messages that were."""
        self.parted = False
        """Whether there is a partition."""
        self._sides = [0] * len(lines)
        self._places: dict[bytes, int] = {}
        self._draw = agenda.stream("connections")
        self._counted = [0.0] * len(lines)
        self._told = [0] * len(lines)

    # --- coming and going

    def come(self, node: Member) -> None:
        """A node is there, and looks for others."""
        self.online[node.place] = node
        self.peers[node.place] = {}
        self._places[node.author] = node.place
        self._counted[node.place] = self.agenda.now
        self._told[node.place] = self.published
        self.changes += 1
        self._dial(node.place)

    def go(self, node: Member, *, announced: bool) -> None:
        """It is gone. The others notice at once if it closes its connections, else when it has been silent."""
        self._charge(node.place)
        for other in list(self.peers[node.place]):
            self._part(node.place, other, 0.0 if announced else _DEAD)
        del self.online[node.place], self.peers[node.place], self._places[node.author]
        self.crowds += 1

    def partition(self, part: float) -> None:
        """The first places no longer reach the others; 0 heals that."""
        count = round(part * len(self.lines))
        self._sides = [int(place < count) for place in range(len(self.lines))]
        self.parted = 0 < count < len(self.lines)
        for one in list(self.peers):
            for other in list(self.peers[one]):
                if self._sides[one] != self._sides[other]:
                    self._part(one, other, _DEAD)
        for place in list(self.online):
            self._dial(place)

    def together(self, one: int, other: int) -> bool:
        """Whether both are on one side of a partition."""
        return self._sides[one] == self._sides[other]

    def _part(self, one: int, other: int, delay: float) -> None:
        for here, there in ((one, other), (other, one)):
            self._charge(here)
            self.peers[here].pop(there, None)
            self.crowds += not self.peers[here]
            node, gone = self.online[here], self.online[there].author
            self.agenda.after(delay, self._parted, node, gone)
        self.changes += 1

    def _parted(self, node: Member, gone: bytes) -> None:
        if node.gone:
            return
        place = self._places.get(gone)
        if place is None or place not in self.peers[node.place]:
            node.handle(events.PeerDisconnected(gone))
        if len(self.peers[node.place]) < _FEW:
            self.agenda.after(_DIAL, self._redial, node)

    def _redial(self, node: Member) -> None:
        if not node.gone:
            self._dial(node.place)

    def _dial(self, place: int) -> None:
        here, link = self.peers[place], self.lines[place].link
        found = [
            other
            for other in self.online
            if other != place
            and other not in here
            and self.together(place, other)
            and links.reach(link, self.lines[other].link)
        ]
        if len(found) + len(here) > CONNECTIONS:
            found = self._draw.sample(found, max(0, _DIALS - len(here)))
        for other in found:
            self.agenda.after(_DIAL, self._connect, self.online[place], self.online[other])

    def _connect(self, one: Member, other: Member) -> None:
        if one.gone or other.gone or other.place in self.peers[one.place] or not self.together(one.place, other.place):
            return
        lines = self.lines[one.place], self.lines[other.place]
        there = links.carry(*lines, links.HANDSHAKE, self.agenda.now, lossless=True)
        assert there is not None
        back = links.carry(*lines[::-1], links.HANDSHAKE, there, lossless=True)
        for place in (one.place, other.place):
            self._charge(place)
        self.crowds += not (self.peers[one.place] and self.peers[other.place])
        self.peers[one.place][other.place] = None
        self.peers[other.place][one.place] = None
        self.changes += 1
        self.agenda.at(back or there, self._connected, one, other)

    def _connected(self, one: Member, other: Member) -> None:
        if one.gone or other.gone or other.place not in self.peers[one.place]:
            return
        one.handle(events.PeerConnected(other.author))
        other.handle(events.PeerConnected(one.author))

    # --- what a connection costs by itself

    def charge_all(self) -> None:
        """Bring all counters up to now."""
        for place in self.online:
            self._charge(place)

    def _charge(self, place: int) -> None:
        """Count what gossipsub says by itself, every second, to neighbours outside the mesh: which messages there were.
        They say as much."""
        now = self.agenda.now
        passed, ids = now - self._counted[place], self.published - self._told[place]
        if not passed:
            return
        outside = max(0, len(self.peers[place]) - self.degree)
        told = min(outside, max(links.LAZY, links.LAZY_PART * outside))
        frames = passed * (1.0 - math.exp(-ids / passed))  # in the other seconds there was nothing to tell
        size = told * (frames * (links.IHAVE + links.HEADERS) + ids * links.IHAVE_ID)
        self._counted[place], self._told[place] = now, self.published
        line = self.lines[place]
        line.sent += size
        line.received += size

    # --- exchanges

    def neighbours(self, place: int) -> Iterator[Member]:
        """The nodes that this one is connected with."""
        return (self.online[other] for other in self.peers[place])

    def find(self, asker: Member, peer: bytes) -> Member | None:
        """The node with this key, if the asker can ask it."""
        place = self._places.get(peer)
        if place is None or asker.gone or place not in self.peers[asker.place]:
            return None
        return self.online[place]

    def ask(
        self,
        asker: N,
        peer: bytes,
        size: int,
        serve: Callable[[N], tuple[A | None, int]],
        hear: Callable[[A | None], None],
    ) -> None:
        """Send a request of so many bytes.

        Args:
            asker: who asks.
            peer: the key of who is asked.
            size: bytes of the request.
            serve: makes the answer there, and says how many bytes it has.
            hear: told the answer; None if there is none.
        """

        def told(answer: A | None) -> None:
            if not asker.gone:
                hear(answer)

        def asked() -> None:
            if self.find(asker, peer) is not other:
                self.agenda.after(_STUCK, told, None)
                return
            answer, back = serve(other)  # type: ignore[arg-type]
            self._bring(other, asker, back, lambda: told(answer), lambda: told(None))  # type: ignore[arg-type]

        other = self.find(asker, peer)
        if other is None:
            self.agenda.after(_DIAL, told, None)
        else:
            self._bring(asker, other, size, asked, lambda: told(None))

    def _bring(
        self,
        source: Member,
        target: Member,
        size: int,
        arrived: Callable[[], None],
        stuck: Callable[[], None],
    ) -> None:
        weight = links.framed(size) + links.STREAM
        lines = self.lines[source.place], self.lines[target.place]
        arrival = links.carry(*lines, weight, self.agenda.now, lossless=self.lossless)
        if arrival is None:
            self.lost += weight
            self.agenda.after(_STUCK, stuck)
        else:
            self.agenda.at(arrival, arrived)

    def bring(self, target: Member, source: Member, size: int) -> float:
        """Have one node send another one so many bytes, over however many frames; when they have come."""
        weight = links.framed(size)
        arrival = links.carry(
            self.lines[source.place], self.lines[target.place], weight, self.agenda.now, lossless=True
        )
        assert arrival is not None
        return arrival
