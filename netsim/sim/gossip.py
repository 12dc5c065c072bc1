"""How announcements spread through a swarm, as gossipsub does it; used by the nodes.

Up to `EXACT` nodes every copy is followed: a node passes a message on to its neighbours in the mesh, one copy after the
other on its uplink, and copies that come a second time are counted and dropped. In larger swarms a message reaches one
node, its `degree` neighbours, the neighbours of these and so on in steps of equal length, in an order drawn anew when
the membership has changed: what a random mesh does on average. Copies and their bytes are counted as in the small one,
queues and the differences between lines are left out, and a node misses a message if all its copies are lost. It looks
at what has come when something else happens to it, at its next tick at the latest, message by message as of the moment
at which each came. Who has found no connection yet takes no part.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from learnae.coordinator import events
from netsim.sim import links
from netsim.sim.network import Fate, Letter, Member, Network

EXACT = 100
HOP = 0.002
"""Seconds that a node takes to check a message and pass it on."""

_BEATS = 2
"""After so many heartbeats of gossipsub's the mesh is what it will be."""

Kind = Callable[[bytes, bytes], events.Event]
Mesh = dict[int, dict[int, None]]
"""The neighbours of each node on one topic, in a fixed order."""


_Copy = tuple[float, int, int, int]
"""When it arrives, its number, where, and from where."""


@dataclass(slots=True)
class _Message:
    """On its way."""

    origin: int
    kind: Kind
    envelope: bytes
    weight: int
    reached: dict[int, float]
    """Places, and when."""
    told: set[int] = field(default_factory=set)
    """Places that hear of it from outside the mesh."""


class Gossip:
    """Spreads messages over the connections of a network.

    Args:
        network: who is there and connected.
        degree: to how many neighbours a node passes on what it hears.
    """

    def __init__(self, network: Network, degree: int) -> None:
        self.copies = 0
        """Sent so far."""
        self._network = network
        network.degree = degree
        self._degree = degree
        self._draw = network.agenda.stream("mesh")
        self._meshes: dict[Kind, Mesh] = {}
        self._seen: dict[Kind, int] = {}
        self._phases: dict[int, float] = {}
        """Of each node's heartbeat, in seconds."""
        self._joined = -1
        self._crowd: list[Member] = []
        self._lines: list[links.Line] = []
        self._hop = 0.0
        self._missed = 0.0
        self._last: dict[bytes, Fate] = {}
        """Of each author's newest heartbeat."""

    def publish(self, author: Member, kind: Kind, envelope: bytes) -> None:
        """Announce something to everybody who can be reached: to nobody before the author has found others."""
        if not self._network.peers.get(author.place):
            return
        self._network.published += 1
        topic = links.UPDATES_TOPIC if kind is events.UpdateHeard else links.PEERS_TOPIC
        weight = links.framed(len(envelope) + links.GOSSIP + topic)
        if len(self._network.online) > EXACT:
            self._spread(author, kind, envelope, weight)
        else:
            self._flood(author, kind, envelope, weight)

    # --- copy by copy

    def _flood(self, author: Member, kind: Kind, envelope: bytes, weight: int) -> None:
        now = self._network.agenda.now
        message = _Message(author.place, kind, envelope, weight, {author.place: now})
        coming: list[_Copy] = []
        self._pass_on(message, author.place, author.place, now, coming)
        self._follow(message, coming)

    def _follow(self, message: _Message, coming: list[_Copy]) -> None:
        """Follow copies until nobody passes one on any more."""
        online, agenda, reached = self._network.online, self._network.agenda, message.reached
        while coming:
            time, _, place, source = heapq.heappop(coming)
            if place in reached:
                continue
            reached[place] = time
            event = message.kind(message.envelope, online[source].author)
            agenda.at(time, self._deliver, online[place], message.origin, event)
            self._pass_on(message, place, source, time + HOP, coming)
        if len(reached) < len(online):
            self._tell(message)

    def _pass_on(self, message: _Message, place: int, source: int, time: float, coming: list[_Copy]) -> None:
        for other in self._current_mesh(message.kind).get(place, ()):
            if other != source:
                self._send(message, place, other, time, coming)

    def _send(self, message: _Message, source: int, target: int, time: float, coming: list[_Copy]) -> None:
        network = self._network
        self.copies += 1
        lines = network.lines[source], network.lines[target]
        arrival = links.carry(*lines, message.weight, time, lossless=network.lossless)
        if arrival is None:
            network.lost += message.weight
        else:
            heapq.heappush(coming, (arrival, self.copies, target, source))

    def _tell(self, message: _Message) -> None:
        """Whom the mesh does not reach hears of a message from the first neighbour outside it whose heartbeat comes,
        and asks for it: so two meshes, which a partition has left, are still one swarm. All neighbours of that one
        hear of it at once, and ask at once, also those whom the first answer would soon have reached."""
        mesh, network, reached = self._current_mesh(message.kind), self._network, message.reached
        for place in network.online:
            if place in reached or place in message.told:
                continue
            beats = [
                (self._beat(other, reached[other]), other)
                for other in network.peers[place]
                if other in reached and other not in mesh[place]
            ]
            if beats:
                message.told.add(place)
                time, other = min(beats)
                network.agenda.at(time, self._ask, message, place, other)

    def _beat(self, place: int, time: float) -> float:
        """When this one's next heartbeat is, one in a second."""
        phase = self._phases.setdefault(place, self._draw.random())
        return math.floor(time - phase) + 1.0 + phase

    def _ask(self, message: _Message, place: int, other: int) -> None:
        network = self._network
        if place in message.reached or other not in network.peers.get(place, ()):
            return
        lines = network.lines[place], network.lines[other]
        asked = links.carry(*lines, links.IHAVE, network.agenda.now, lossless=network.lossless)
        if asked is None:
            network.lost += links.IHAVE
        else:
            network.agenda.at(asked, self._answer, message, place, other)

    def _answer(self, message: _Message, place: int, other: int) -> None:
        if other in self._network.peers.get(place, ()):
            coming: list[_Copy] = []
            self._send(message, other, place, self._network.agenda.now, coming)
            self._follow(message, coming)

    def _deliver(self, node: Member, origin: int, event: events.Event) -> None:
        if not node.gone and self._network.together(origin, node.place):
            node.handle(event)

    def _current_mesh(self, kind: Kind) -> Mesh:
        """What gossipsub makes of a topic's mesh every second: who has less than `degree - 1` neighbours takes some
        more, up to `degree`; who has more than `degree + 1` drops some. Nobody minds how many the others have."""
        network, mesh, degree = self._network, self._meshes.setdefault(kind, {}), self._degree
        if self._seen.get(kind) == network.changes:
            return mesh
        self._seen[kind] = network.changes
        for place in [place for place in mesh if place not in network.peers]:
            del mesh[place]
        for place, peers in network.peers.items():
            mine = mesh.setdefault(place, {})
            for other in [other for other in mine if other not in peers]:
                del mine[other]
        for _ in range(_BEATS):
            for place, mine in mesh.items():
                if len(mine) < degree - 1:
                    rest = [other for other in network.peers[place] if other not in mine]
                    for other in self._draw.sample(rest, min(degree - len(mine), len(rest))):
                        mine[other] = mesh[other][place] = None
            for place, mine in mesh.items():
                if len(mine) > degree + 1:
                    for other in self._draw.sample(list(mine), len(mine) - degree):
                        del mine[other], mesh[other][place]
        return mesh

    # --- on average

    def _spread(self, author: Member, kind: Kind, envelope: bytes, weight: int) -> None:
        network, degree = self._network, self._degree
        crowd = self._current_crowd()
        count = len(crowd)
        copies = count * (degree - 1) + 1
        self.copies += copies
        lost = 0.0 if network.lossless else self._missed
        back = links.acknowledged(weight)
        sent = (weight + back) * (degree - 1)
        received = (weight * (1.0 - lost) + back) * (degree - 1)
        for line in self._lines:
            line.sent += sent
            line.received += received
        network.lost += weight * (degree - 1) * lost * count
        network.lines[author.place].sent += weight
        network.lines[crowd[0].place].received += weight
        event = kind(envelope, author.author)
        step = self._hop + degree / 2 * weight / network.lines[author.place].link.up
        start, size, level, done = self._draw.randrange(count), degree, 1, 0
        missed, draw, origin = lost ** (degree - 1), self._draw.random, author.place
        order = crowd[start:] + crowd[:start]
        fate, before = Fate(), None
        if kind is events.HeartbeatHeard:
            before, self._last[author.author] = self._last.get(author.author), fate
        while done < count:
            letter: Letter = (network.agenda.now + level * step, event, fate)
            for node in order[done : done + size]:
                if network.parted and not network.together(origin, node.place):
                    continue
                if (not missed or draw() >= missed) and node is not author:
                    node.inbox.append(letter)
            done, size, level = done + size, size * (degree - 1), level + 1
        if before is not None and not missed and not network.parted:
            before.void = network.agenda.now + level * step

    def _current_crowd(self) -> list[Member]:
        network = self._network
        if self._joined != network.crowds:
            self._joined = network.crowds
            self._crowd = [node for place, node in network.online.items() if network.peers[place]]
            self._draw.shuffle(self._crowd)
            self._lines = [network.lines[node.place] for node in self._crowd]
            found = [network.lines[node.place].link for node in self._crowd]
            self._hop = HOP + 2 * statistics.fmean(link.latency + link.jitter for link in found)
            self._missed = 1.0 - statistics.fmean(1.0 - link.loss for link in found) ** 2
        return self._crowd
