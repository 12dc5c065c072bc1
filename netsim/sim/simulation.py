"""A simulated run: builds a scenario's nodes, lets things happen to them, looks at them; used by the command line."""

from __future__ import annotations

import gc
import hashlib
import math
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from nacl.signing import SigningKey

from learnae.coordinator import Settings, events
from netsim import result, workloads
from netsim.crew import Attack
from netsim.result import Look, Result
from netsim.scenario import Happening, Link, Nodes, Scenario
from netsim.sim.agenda import Agenda
from netsim.sim.churn import Presence
from netsim.sim.clocks import Clock
from netsim.sim.disk import Disk
from netsim.sim.gossip import Gossip
from netsim.sim.links import PRESETS, Line
from netsim.sim.network import Network
from netsim.sim.node import Node, Tally, World
from netsim.sim.sharing import Shared

Progress = Callable[[float, Look], None]
"""Told, at every look, which part of the run is over (0 to 1) and what was seen."""


@dataclass(slots=True)
class _Place:
    """A place in the swarm: a line, and the node on it now, or the disk of the one that will come back."""

    index: int
    group: Nodes
    life: int
    """How many nodes were here before this one."""
    presence: Presence
    clock: Clock
    disk: Disk
    speed: float
    number: int
    node: Node | None = None
    turn: int = 0
    """Counts comings and goings: what was planned before the last one is void."""
    published: int = 0


def simulate(name: str, scenario: Scenario, seed: int, progress: Progress | None = None) -> Result:
    """Run a scenario.

    Args:
        name: what to call it in the result.
        scenario: what happens.
        seed: of all that is random; the same one gives the same result to the bit.
        progress: told how it goes.
    """
    collecting = gc.isenabled()
    gc.disable()  # Millions of objects live for hours of the run, and what is given up is freed without it.
    try:
        return Simulation(name, scenario, seed, progress).run()
    finally:
        if collecting:
            gc.enable()


class Simulation:
    """One run; arguments as of `simulate`."""

    def __init__(self, name: str, scenario: Scenario, seed: int, progress: Progress | None = None) -> None:
        self._name, self._scenario, self._seed, self._progress = name, scenario, seed, progress
        self.agenda = Agenda(seed)
        groups = [group for group in scenario.nodes for _ in range(group.count)]
        lines = [Line(_link(group), self.agenda.stream(f"line {index}")) for index, group in enumerate(groups)]
        self.network = Network(self.agenda, lines)
        self.crew = workloads.crew(scenario, seed)
        self.world = World(
            agenda=self.agenda,
            network=self.network,
            gossip=Gossip(self.network, scenario.gossip.degree),
            crew=self.crew,
            shared=Shared(),
            tally=Tally(),
            topic="netsim",
            tick=scenario.run.tick,
            boot=scenario.run.boot,
            settings=_settings(scenario),
        )
        self._numbers = len(groups)
        """Trainers given out so far."""
        self._places = [self._place(index, group) for index, group in enumerate(groups)]
        self._refused: Counter[str] = Counter()
        self._looks: list[Look] = []
        self._stale = 0.0
        self._applied = 0
        self._quiet = False

    def _place(self, index: int, group: Nodes) -> _Place:
        draw = self.agenda.stream(f"place {index} 0")
        presence = Presence(group.uptime, draw)
        clock = Clock.drawn(group, draw)
        speed = group.speed * math.exp(draw.gauss(0.0, 1.0) * group.speed_spread)
        return _Place(index, group, 0, presence, clock, Disk(), speed, index)

    def run(self) -> Result:
        """Let it happen."""
        began = time.perf_counter()
        run = self._scenario.run
        for place in self._places:
            first = place.group.joins
            if place.presence.absent_at_first():
                first += place.presence.away(first)
            self.agenda.at(first + 0.01 * self.agenda.stream(f"start {place.index}").random(), self._come, place, 0)
        for happening in self._scenario.happenings:
            self.agenda.at(happening.at, self._happen, happening)
        self.agenda.at(run.seconds, self._be_quiet)
        moments = np.arange(run.evaluate, run.seconds, run.evaluate).tolist()
        for moment in [*moments, run.seconds, *([run.seconds + run.quiet] if run.quiet else [])]:
            self.agenda.run(moment)
            self._look(moment / (run.seconds + run.quiet))
        summary = self._summary()
        looks = tuple(self._looks)
        tally = self.world.tally
        costs = {
            "seconds": time.perf_counter() - began,
            "memory": _peak_memory(),
            "events": float(self.agenda.calls + tally.events),
            "cpu_per_node": tally.seconds / len(self._places),
        }
        digest = result.digest(self._scenario, self._seed, looks, summary)
        return Result(self._name, self._scenario, self._seed, "simulated", looks, summary, digest, costs)

    @property
    def nodes(self) -> list[Node]:
        """Those that are there."""
        return [place.node for place in self._places if place.node is not None]

    @property
    def honest(self) -> list[Node]:
        """Those of them that are honest and train."""
        return [node for node in self.nodes if node.attack is None and node.trainer is not None]

    # --- coming and going

    def _come(self, place: _Place, turn: int) -> None:
        if place.turn != turn or place.node is not None or self._quiet:
            return
        place.turn += 1
        identity = hashlib.sha256(f"{self._seed} key {place.index} {place.life}".encode()).digest()
        attack = _attack(place.group, self._seed, place.index)
        place.node = Node(
            self.world,
            place.index,
            place.number,
            SigningKey(identity),
            place.clock,
            place.disk,
            place.speed,
            attack,
            lambda _: self._go(place, place.turn, announced=True),
        )
        place.node.start()
        stay = place.presence.stay(self.agenda.now)
        if math.isfinite(stay):
            self.agenda.after(stay, self._depart, place, place.turn)

    def _depart(self, place: _Place, turn: int) -> None:
        """Leave as the model of its uptime says, and come back, or have another one come."""
        if place.turn != turn or place.node is None or self._quiet:
            return
        self._go(place, turn, announced=place.presence.announced())
        if place.presence.replaced():
            place.life += 1
            draw = self.agenda.stream(f"place {place.index} {place.life}")
            place.presence = Presence(place.group.uptime, draw)
            place.clock = Clock.drawn(place.group, draw)
            place.disk = Disk()
            place.number, self._numbers = self._numbers, self._numbers + 1
        self.agenda.after(place.presence.away(self.agenda.now), self._come, place, place.turn)

    def _go(self, place: _Place, turn: int, *, announced: bool) -> None:
        node = place.node
        if node is None or place.turn != turn:
            return
        place.turn += 1
        node.stop(announced=announced)
        node.retire()
        place.node = None
        place.published += node.published
        self._refused.update({reason.value: count for reason, count in node.coordinator.refused.items()})

    def _happen(self, happening: Happening) -> None:
        those = self._places[: round(happening.part * len(self._places))]
        match happening.what:
            case "partition":
                self.network.partition(happening.part)
            case "heal":
                self.network.partition(0.0)
            case "crash" | "leave":
                for place in those:
                    self._go(place, place.turn, announced=happening.what == "leave")
            case "restart":
                for place in those:
                    self._come(place, place.turn)
            case "clock":
                for place in those:
                    place.clock.set_off(happening.seconds)

    def _be_quiet(self) -> None:
        """No more rounds, churn and faults."""
        self._quiet = True
        self.network.lossless = True
        self.network.partition(0.0)
        for node in self.nodes:
            node.handle(events.Pause())

    # --- what is seen

    def _look(self, part: float) -> None:
        for node in self.nodes:
            node.read_inbox()
        honest = self.honest
        tally = self.world.tally
        scores = self.crew.scores([node.trainer for node in honest if node.trainer is not None])
        self.network.charge_all()
        lines = self.network.lines
        updates = [len(node.coordinator.ledger) for node in honest if node.coordinator.ledger is not None]
        look = Look(
            time=self.agenda.now,
            live=len(self.nodes),
            accuracy=_mean([score.accuracy for score in scores]),
            worst=min((score.accuracy for score in scores), default=math.nan),
            loss=_mean([score.loss for score in scores]),
            consensus=_consensus(honest),
            staleness=tally.staleness / tally.applied if tally.applied else math.nan,
            sent=_mean([line.sent for line in lines]),
            received=_mean([line.received for line in lines]),
            updates=_mean(updates),
        )
        self._stale += tally.staleness
        self._applied += tally.applied
        tally.staleness, tally.applied = 0.0, 0
        self._looks.append(look)
        if self._progress is not None:
            self._progress(part, look)

    def _summary(self) -> dict[str, float]:
        last = self._looks[-1]
        lines = self.network.lines
        refused = Counter(self._refused)
        for node in self.nodes:
            refused.update({reason.value: count for reason, count in node.coordinator.refused.items()})
        published = [place.published + (place.node.published if place.node else 0) for place in self._places]
        falls = [100 * (a.accuracy - b.accuracy) for a, b in zip(self._looks, self._looks[1:], strict=False)]
        return {
            "accuracy": last.accuracy,
            "worst": last.worst,
            "loss": last.loss,
            "consensus": last.consensus,
            "identical": float(_identical(self.honest)),
            "live": float(last.live),
            "updates": last.updates,
            "sent": last.sent,
            "received": last.received,
            "bytes": last.sent + last.received,
            "bytes_most": max(line.sent + line.received for line in lines),
            "rounds": _mean(published),
            "staleness": self._stale / self._applied if self._applied else math.nan,
            "lost_accuracy": max([0.0, *(fall for fall in falls if not math.isnan(fall))]),
            **{f"refused.{reason}": float(count) for reason, count in sorted(refused.items())},
        }


def _identical(nodes: Sequence[Node]) -> bool:
    """Whether these nodes hold the same updates, the same weights, and attest the same newest cut."""
    seen = set()
    for node in nodes:
        ledger, trainer = node.coordinator.ledger, node.trainer
        if ledger is None or trainer is None:
            return False
        cuts = node.coordinator.statistics(node.clock.read(node.agenda.now)).cuts
        seen.add((ledger.digest, trainer.replica.digest(), cuts.newest if cuts is not None else None))
    return len(seen) == 1


def _consensus(nodes: Sequence[Node]) -> float:
    """Root mean square distance of the replicas from their mean, over the norm of the mean."""
    replicas = [node.trainer.replica for node in nodes if node.trainer is not None]
    if not replicas:
        return math.nan
    mean = np.zeros(replicas[0].layout.size, np.float64)
    for replica in replicas:
        mean += replica.read()
    mean /= len(replicas)
    squares = [float(np.sum((replica.read() - mean) ** 2)) for replica in replicas]
    norm = float(np.sqrt(np.sum(mean * mean)))
    return math.sqrt(fmean(squares)) / norm if norm else 0.0


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _link(group: Nodes) -> Link:
    return group.link if isinstance(group.link, Link) else PRESETS[group.link]


def _settings(scenario: Scenario) -> Settings:
    whole = {"parallel", "pending", "pending_of_one"}
    return Settings(**{key: int(value) if key in whole else value for key, value in scenario.settings.items()})  # type: ignore[arg-type]


def _attack(group: Nodes, seed: int, place: int) -> Attack | None:
    if group.attack is None:
        return None
    from netsim import attacks

    return attacks.named(group.attack)


def _peak_memory() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)
