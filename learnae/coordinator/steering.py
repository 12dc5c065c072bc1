"""What the trainer is told to do, and with which weight its rounds count; part of the coordinator."""

from __future__ import annotations

import math
from bisect import bisect_right

from learnae.coordinator.actions import Action, Mode, SetShare, Train
from learnae.coordinator.peers import Members

_WAVERING = 0.1
_FASTEST = 2.0
_SLOWEST = 0.25


class Steering:
    """Knows what the trainer was told, and tells it only what changes."""

    def __init__(self, *, paused: bool) -> None:
        self.ready = False
        """A trainer is there to be told."""
        self.paused = paused
        self.finishing = False
        self.caught_up = False
        """We hold what the swarm has done so far; before, our rounds would start from the wrong weights."""
        self.share = 0.0
        self._mode: Mode | None = None

    def trainer_is(self, ready: bool) -> None:
        """A trainer has come, and knows nothing yet, or is gone."""
        self.ready = ready
        self._mode = None
        self.share = 0.0

    def orders(self, members: Members, absent: int, rate: float) -> list[Action]:
        """What to tell the trainer now, in a swarm with these other members; `rate`: own samples per second.

        `absent` nodes worked until a short while ago and are expected back. They keep their shares: if others took
        them over, a swarm of which some are always away would run after the data of those who happen to be there.
        """
        if not self.ready:
            return []
        actions: list[Action] = []
        share = fair_share(rate, [*[0.0] * absent, *members.rates])
        # Rates are measured and waver; who joins or leaves changes the shares by more than that.
        if abs(share - self.share) > _WAVERING * share and not self.finishing:
            self.share = share
            actions.append(SetShare(share))
        mode = self._wanted()
        if mode != self._mode:
            self._mode = mode
            actions.append(Train(mode))
        return actions

    def _wanted(self) -> Mode:
        if self.finishing:
            return Mode.FINISH
        return Mode.PAUSE if self.paused or not self.caught_up else Mode.TRAIN


def fair_share(rate: float, others: list[float]) -> float:
    """The weight of this node's rounds beside others at work: its part of all samples per second, from 0 to 1.

    With shares that add up to one a swarm moves about as far in a round as a single node. A node whose rate is not
    known yet counts as an average one. Nobody gets more than twice, or less than a quarter of, an equal share: a rate
    is only a claim, and the rarest data may be on the slowest PC.
    """
    equal = 1.0 / (1 + len(others))
    rates = sorted((rate, *others))
    unknown = bisect_right(rates, 0.0)
    if unknown == len(rates):
        return equal
    middle = rates[(unknown + len(rates) - 1) // 2]
    most = _FASTEST * middle
    fast = bisect_right(rates, most)
    total = math.fsum((unknown * middle, (len(rates) - fast) * most, *rates[unknown:fast]))
    return min(max(min(rate or middle, most) / total, _SLOWEST * equal), _FASTEST * equal, 1.0)
