"""What one node knows and holds, shared by the parts of the coordinator."""

from __future__ import annotations

import math
import statistics
from collections import Counter

from learnae.coordinator.actions import Action, Notice
from learnae.coordinator.adoption import Adoption
from learnae.coordinator.cuts import Cuts
from learnae.coordinator.fetcher import Fetcher
from learnae.coordinator.heart import Heart
from learnae.coordinator.peers import Members, PeerTable
from learnae.coordinator.repair import Repair
from learnae.coordinator.rivalry import Rivalry
from learnae.coordinator.settings import Settings
from learnae.coordinator.steering import Steering
from learnae.genesis import Genesis
from learnae.ledger import Entry, Ledger, Refusal
from learnae.peer import short

CLOCK_TOLERANCE = 30.0
"""How many seconds, and at least two slots, a peer's clock may be ahead. Larger forgives worse clocks; a cheater may
reserve slots so far ahead."""
_SKEW = 1.0
"""Seconds by which clocks may differ without being put right: messages take some time too."""
ABSURD = 120.0
"""Seconds beyond which a clock is wrong, and no measure for others."""


class Memory:
    """The own swarm, the others, and what is under way.

    Args:
        author: the own key.
        topic: the name under which the swarm's nodes meet.
        settings: time constants.
        heart: says the heartbeats.
        steering: knows what the trainer was told.
    """

    def __init__(self, author: bytes, topic: str, settings: Settings, heart: Heart, steering: Steering) -> None:
        self.author = author
        self.topic = topic
        self.settings = settings
        self.heart = heart
        self.steering = steering
        self.peers = PeerTable()
        self.refused: Counter[Refusal] = Counter()
        self.own_genesis: Genesis | None = None
        """What the trainer's task says."""
        self.genesis: Genesis | None = None
        """That of the swarm that the node is in; another one if it went over."""
        self.ledger: Ledger | None = None
        self.repair = Repair(settings)
        self.fetcher = Fetcher(settings)
        self.rivalry = Rivalry(settings.retry)
        self.cuts = Cuts(author, settings)
        self.adoption = Adoption(settings)
        self.snapshots: set[bytes] = set()
        """CIDs of the snapshots on disk."""
        self.last_seq = 0
        """The highest own number that may have been seen by anybody."""
        self.own_entry: Entry | None = None
        """The own update that the trainer waits to hear of."""
        self.loads = 0
        """How often this trainer was told to load a snapshot."""
        self.base_index = -1
        """The interval of the cut that the trainer's table of updates begins after."""
        self.joined_at = 0.0
        self._offset = 0.0
        self._offset_at = -math.inf
        self.beyond = False
        """The cut with most votes cannot be reached by exchanging updates."""
        self.lost = False
        """The trainer's weights are not those of the ledger, and no snapshot is here to start from."""
        self.behind = False
        """All who could tell what is missing here have pruned it."""

    def members(self, now: float) -> Members:
        """The other live nodes of this swarm."""
        return self.peers.members(self.ledger.swarm if self.ledger is not None else None, now, self.settings.expiry)

    def strangers(self, now: float) -> list[tuple[bytes | None, Members]]:
        """The other live nodes on the topic that are in no swarm, or in another one, by swarm."""
        swarm = self.ledger.swarm if self.ledger is not None else None
        return self.peers.strangers(swarm, now, self.settings.expiry)

    def lied(self, key: bytes, now: float) -> list[Action]:
        """A peer answered with something else than was asked for."""
        self.refused[Refusal.BAD_BLOCK] += 1
        banned = self.peers.get(key).strike(now, self.settings.ban)
        then = f"it is asked for nothing for {self.settings.ban:g} s" if banned else "trying others"
        return [Notice("warning", f"peer {short(key)} sent a block that was not asked for; {then}")]

    def offset(self, now: float) -> float:
        """Seconds by which the swarm's clock, the median of its members', is ahead of the own one."""
        if not 0 <= now - self._offset_at < self.settings.glance:
            near = (peer.ahead for peer in self.members(now) if abs(peer.ahead) <= ABSURD)
            offset = statistics.median([0.0, *near])
            self._offset, self._offset_at = (offset if abs(offset) > _SKEW else 0.0), now
        return self._offset

    def slot(self, now: float) -> int:
        """The current slot, by the swarm's clock."""
        assert self.genesis is not None
        return int((now + self.offset(now)) // self.genesis.slot_seconds)

    @staticmethod
    def tolerance(genesis: Genesis) -> int:
        """How many slots ahead an update may be."""
        return max(2, math.ceil(CLOCK_TOLERANCE / genesis.slot_seconds))
