"""Stand-ins for nodes, and the network between them; used by the tests of the simulator's engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from learnae.coordinator import events
from netsim.scenario import Link
from netsim.sim.agenda import Agenda
from netsim.sim.gossip import Gossip
from netsim.sim.links import Line
from netsim.sim.network import Letter, Network

FAST = Link(latency=0.01, up=1e6, down=1e6)


@dataclass
class Person:
    """Hears everything, and says nothing."""

    place: int
    agenda: Agenda
    gone: bool = False
    inbox: list[Letter] = field(default_factory=list)
    heard: list[tuple[float, events.Event]] = field(default_factory=list)

    author: bytes = b""

    def __post_init__(self) -> None:
        self.author = self.place.to_bytes(32)

    def handle(self, event: events.Event) -> None:
        self.heard.append((self.agenda.now, event))

    def letters(self) -> list[bytes]:
        """What gossip has brought, copy by copy or on average."""
        came = [*self.heard, *(letter[:2] for letter in self.inbox)]
        return [event.envelope for _, event in came if isinstance(event, events.HeartbeatHeard | events.UpdateHeard)]

    def connected(self) -> set[bytes]:
        """Whom it was told it is connected with."""
        found: set[bytes] = set()
        for _, event in self.heard:
            if isinstance(event, events.PeerConnected):
                found.add(event.peer)
            elif isinstance(event, events.PeerDisconnected):
                found.discard(event.peer)
        return found


class Town:
    """People on lines of one kind, who came a while ago and are connected."""

    def __init__(self, count: int, link: Link = FAST, degree: int = 3, seed: int = 0) -> None:
        self.agenda = Agenda(seed)
        self.network = Network(self.agenda, [Line(link, self.agenda.stream(f"line {i}")) for i in range(count)])
        self.gossip = Gossip(self.network, degree)
        self.people = [Person(place, self.agenda) for place in range(count)]
        for person in self.people:
            self.network.come(person)
        self.agenda.run(10.0)

    def publish(self, place: int, envelope: bytes) -> None:
        """Somebody announces something."""
        self.gossip.publish(self.people[place], events.HeartbeatHeard, envelope)

    def sent(self) -> float:
        """Bytes, by all."""
        return sum(line.sent for line in self.network.lines)

    def received(self) -> float:
        """Bytes, by all."""
        return sum(line.received for line in self.network.lines)
