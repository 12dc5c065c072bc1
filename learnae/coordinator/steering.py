"""What the trainer is told to do, and with which weight its rounds count; part of the coordinator."""

from __future__ import annotations

from learnae.coordinator.actions import Action, Mode, SetShare, Train
from learnae.coordinator.peers import Peer

_WORKING = ("training", "alone")


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

    def orders(self, members: list[Peer]) -> list[Action]:
        """What to tell the trainer now, in a swarm with these other members.

        The share is one over the number of nodes at work: with it a swarm moves about as far in a round as a single
        node. Too large a share costs more accuracy than one too small.
        """
        if not self.ready:
            return []
        actions: list[Action] = []
        working = sum(peer.heartbeat is not None and peer.heartbeat.state in _WORKING for peer in members)
        share = 1.0 / (1 + working)
        if share != self.share and not self.finishing:
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
