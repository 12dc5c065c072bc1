"""When nodes are there: stays and absences drawn from the models that a scenario names; used by the simulation.

The diurnal model is of ordinary PCs: each has a shift of its own, either office hours (from 8 or 9 in the morning for
about nine hours) or a night (from about 22 in the evening for about nine hours), which it keeps every day with a jitter
of half an hour at both ends. A run starts at midnight.
"""

from __future__ import annotations

import math
import random

from netsim.scenario import Uptime

DAY = 86_400.0
_SHIFTS = ((8.5, 17.5), (22.0, 31.0))
_SPREAD = 1.0
_JITTER = 0.5


class Presence:
    """One node's comings and goings.

    Args:
        uptime: the model.
        draw: random numbers of this node's own.
    """

    def __init__(self, uptime: Uptime, draw: random.Random) -> None:
        self._uptime = uptime
        self._draw = draw
        first, last = draw.choice(_SHIFTS)
        self._shift = (first + draw.gauss(0.0, _SPREAD), last + draw.gauss(0.0, _SPREAD))

    def stay(self, now: float) -> float:
        """Seconds that it stays, having come now; infinity if it never leaves."""
        uptime = self._uptime
        match uptime.kind:
            case "exponential":
                return self._draw.expovariate(1.0 / uptime.mean)
            case "weibull":
                scale = uptime.mean / math.gamma(1.0 + 1.0 / uptime.shape)
                return self._draw.weibullvariate(scale, uptime.shape)
            case "diurnal":
                return self._until(now, self._shift[1])
        return math.inf

    def away(self, now: float) -> float:
        """Seconds that it is gone, having left now."""
        if self._uptime.kind == "diurnal":
            return self._until(now, self._shift[0])
        return self._draw.expovariate(1.0 / self._uptime.away) if self._uptime.away else 0.0

    def absent_at_first(self) -> bool:
        """Whether a run that starts at midnight finds it switched off."""
        first, last = self._shift
        return self._uptime.kind == "diurnal" and not first <= 24.0 < last

    def announced(self) -> bool:
        """Whether it says goodbye this time."""
        return self._draw.random() < self._uptime.goodbye

    def replaced(self) -> bool:
        """Whether another node comes in its place this time."""
        return self._draw.random() < self._uptime.replaced

    def _until(self, now: float, hour: float) -> float:
        """Seconds up to the next time that the day has this hour, give or take the jitter."""
        target = (hour + self._draw.gauss(0.0, _JITTER)) * 3600.0
        return (target - now) % DAY or DAY
