"""The clocks of simulated PCs, which are wrong by a little and run a little too fast or slow; used by the nodes."""

from __future__ import annotations

import random

from netsim.scenario import Nodes

EPOCH = 19_700 * 86_400.0
"""Unix time at the start of a run: midnight, so that slots of any usual length begin there."""


class Clock:
    """Maps seconds of the run to what a PC believes the Unix time to be.

    Args:
        skew: seconds by which it is ahead at the start.
        drift: parts per million by which it is too fast.
    """

    def __init__(self, skew: float = 0.0, drift: float = 0.0) -> None:
        self._skew = skew
        self._rate = 1.0 + drift * 1e-6

    @classmethod
    def drawn(cls, group: Nodes, draw: random.Random) -> Clock:
        """The clock of a node of this group."""
        return cls(draw.gauss(0.0, 1.0) * group.skew, draw.gauss(0.0, 1.0) * group.drift)

    def read(self, moment: float) -> float:
        """What it shows at this second of the run."""
        return EPOCH + moment * self._rate + self._skew

    def when(self, time: float) -> float:
        """The second of the run at which it shows this."""
        return (time - EPOCH - self._skew) / self._rate

    def set_off(self, seconds: float) -> None:
        """Put it forward by so many seconds."""
        self._skew += seconds
