"""Who comes and goes when, by models of uptime and by happenings, drawn as the simulator draws it; used by `plan`."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from netsim.scenario import Happening, Nodes
from netsim.sim.agenda import Agenda
from netsim.sim.churn import Presence
from netsim.sim.clocks import Clock

What = Literal["start", "crash", "leave", "partition", "heal"]


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is done to nodes (numbers from 0) at a second of the run."""

    at: float
    what: What
    nodes: tuple[int, ...] = ()
    fresh: bool = False
    """They come as new nodes, without the disks of those before."""


@dataclass(slots=True)
class Place:
    """A place in the swarm, and what is drawn for it."""

    number: int
    group: Nodes
    seed: int
    life: int = 0
    presence: Presence = field(init=False)
    speed: float = field(init=False)
    """Local steps per second, also of those who come in the first one's place."""

    def __post_init__(self) -> None:
        draw = self._draw()
        self.speed = self.group.speed * math.exp(draw.gauss(0.0, 1.0) * self.group.speed_spread)

    def _draw(self) -> random.Random:
        draw = Agenda(self.seed).stream(f"place {self.number} {self.life}")
        self.presence = Presence(self.group.uptime, draw)
        Clock.drawn(self.group, draw)
        return draw

    def steps(self, happenings: Sequence[Happening], end: float) -> Iterator[Step]:
        """Its comings and goings before `end`, in order; `happenings`: those that befall it, in order."""
        rest = [h for h in happenings if h.what in ("crash", "leave", "restart")]
        here, fresh = False, False
        due = self.group.joins
        if self.presence.absent_at_first():
            due += self.presence.away(due)
        while True:
            by_hand = bool(rest) and rest[0].at <= due
            now = rest[0].at if by_hand else due
            if now >= end:
                return
            happening = rest.pop(0) if by_hand else None
            if happening is not None and (happening.what == "restart") == here:
                continue
            if here:
                if happening is not None:
                    yield Step(now, "crash" if happening.what == "crash" else "leave", (self.number,))
                    due = math.inf
                else:
                    yield Step(now, "leave" if self.presence.announced() else "crash", (self.number,))
                    fresh = self.presence.replaced()
                    if fresh:
                        self.life += 1
                        self._draw()
                    due = now + self.presence.away(now)
            else:
                yield Step(now, "start", (self.number,), fresh)
                fresh = False
                due = now + self.presence.stay(now)
            here = not here


def timeline(places: Sequence[Place], happenings: Sequence[Happening], end: float) -> list[Step]:
    """All that is done before `end`, in the order of time."""
    ordered = sorted(happenings, key=lambda happening: happening.at)
    steps = [
        step
        for place in places
        for step in place.steps([h for h in ordered if place.number < round(h.part * len(places))], end)
    ]
    for happening in ordered:
        if happening.what == "partition":
            steps.append(Step(happening.at, "partition", tuple(range(round(happening.part * len(places))))))
        elif happening.what == "heal":
            steps.append(Step(happening.at, "heal"))
    return sorted((step for step in steps if step.at < end), key=lambda step: step.at)
