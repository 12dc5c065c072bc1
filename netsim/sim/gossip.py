"""How announcements spread through a swarm, as gossipsub does it; used by the nodes.

Up to `EXACT` nodes every copy is followed: a node passes a message on to its neighbours in the mesh, one copy after the
other on its uplink, and copies that come a second time are counted and dropped. In larger swarms a message reaches one
node, its `degree` neighbours, the neighbours of these and so on in steps of equal length, in an order drawn anew when
the membership has changed: what a random mesh does on average. Copies and their bytes are counted as in the small one,
queues and the differences between lines are left out, and a node misses a message if all its copies are lost.
"""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Callable

from learnae.coordinator import events
from netsim.sim import links
from netsim.sim.network import Member, Network

EXACT = 100
HOP = 0.002
"""Seconds that a node takes to check a message and pass it on."""

_BEATS = 2
"""After so many heartbeats of gossipsub's the mesh is what it will be."""

Kind = Callable[[bytes, bytes], events.Event]
Mesh = dict[int, dict[int, None]]
"""The neighbours of each node on one topic, in a fixed order."""


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
        self._joined = -1
        self._crowd: list[Member] = []
        self._hop = 0.0
        self._missed = 0.0

    def publish(self, author: Member, kind: Kind, envelope: bytes) -> None:
        """Announce something to everybody who can be reached."""
        self._network.published += 1
        topic = links.UPDATES_TOPIC if kind is events.UpdateHeard else links.PEERS_TOPIC
        weight = links.framed(len(envelope) + links.GOSSIP + topic)
        if len(self._network.online) > EXACT:
            self._spread(author, kind, envelope, weight)
        else:
            self._flood(author, kind, envelope, weight)

    # --- copy by copy

    def _flood(self, author: Member, kind: Kind, envelope: bytes, weight: int) -> None:
        network = self._network
        mesh = self._current_mesh(kind)
        online, agenda = network.online, network.agenda
        reached = {author.place: agenda.now}
        coming: list[tuple[float, int, int, int]] = []
        self._pass_on(mesh, author.place, author.place, agenda.now, weight, coming)
        while coming or self._fetched(mesh, reached, weight, coming):
            time, _, place, source = heapq.heappop(coming)
            if place in reached:
                continue
            reached[place] = time
            event = kind(envelope, online[source].author)
            agenda.at(time, self._deliver, online[place], author.place, event)
            self._pass_on(mesh, place, source, time + HOP, weight, coming)

    def _fetched(
        self, mesh: Mesh, reached: dict[int, float], weight: int, coming: list[tuple[float, int, int, int]]
    ) -> bool:
        """Whom the mesh did not reach hears of a message from neighbours outside it, up to a second later, and asks for
        it: whether there is such a node. It closes the gap that a partition leaves between two meshes."""
        network, lines = self._network, self._network.lines
        for place in [place for place in network.online if place not in reached]:
            peers = [other for other in network.peers[place] if other in reached and other not in mesh[place]]
            for other in peers[: links.LAZY]:
                heard = reached[other] + self._draw.random()
                self.copies += 1
                asked = links.carry(lines[place], lines[other], links.IHAVE, heard, lossless=network.lossless)
                if asked is None:
                    continue
                arrival = links.carry(lines[other], lines[place], weight, asked, lossless=network.lossless)
                if arrival is not None:
                    heapq.heappush(coming, (arrival, self.copies, place, other))
                    break
        return bool(coming)

    def _pass_on(
        self,
        mesh: Mesh,
        place: int,
        source: int,
        time: float,
        weight: int,
        coming: list[tuple[float, int, int, int]],
    ) -> None:
        network = self._network
        line, lines = network.lines[place], network.lines
        for other in mesh.get(place, ()):
            if other == source:
                continue
            self.copies += 1
            arrival = links.carry(line, lines[other], weight, time, lossless=network.lossless)
            if arrival is None:
                network.lost += weight
            else:
                heapq.heappush(coming, (arrival, self.copies, other, place))

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
        for node in crowd:
            line = network.lines[node.place]
            line.sent += (weight + back) * (degree - 1)
            line.received += (weight * (1.0 - lost) + back) * (degree - 1)
        network.lost += weight * (degree - 1) * lost * count
        network.lines[author.place].sent += weight
        network.lines[crowd[0].place].received += weight
        event = kind(envelope, author.author)
        step = self._hop + degree / 2 * weight / network.lines[author.place].link.up
        start, size, level = self._draw.randrange(count), degree, 1
        done = 0
        while done < count:
            batch = [crowd[(start + i) % count] for i in range(done, min(done + size, count))]
            network.agenda.after(level * step, self._deliver_all, batch, author, event, lost ** (degree - 1))
            done, size, level = done + size, size * (degree - 1), level + 1

    def _deliver_all(self, batch: list[Member], author: Member, event: events.Event, missed: float) -> None:
        network, origin = self._network, author.place
        for node in batch:
            if node.gone or node is author or (network.parted and not network.together(origin, node.place)):
                continue
            if not missed or self._draw.random() >= missed:
                node.handle(event)

    def _current_crowd(self) -> list[Member]:
        network = self._network
        if self._joined != network.changes:
            self._joined = network.changes
            self._crowd = list(network.online.values())
            self._draw.shuffle(self._crowd)
            found = [network.lines[node.place].link for node in self._crowd]
            self._hop = HOP + 2 * statistics.fmean(link.latency + link.jitter for link in found)
            self._missed = 1.0 - statistics.fmean(1.0 - link.loss for link in found) ** 2
        return self._crowd
