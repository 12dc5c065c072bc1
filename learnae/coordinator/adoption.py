"""Going over to a cut or a swarm of others: for newcomers, for who slept, and where histories parted; sans-IO.

Part of the coordinator. The steps are the same for all reasons: choose a cut that members attest, fetch its manifest,
then its snapshot, load it, and take in what came after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass

from learnae.coordinator.actions import Action, FetchSnapshot
from learnae.coordinator.cuts import Cuts
from learnae.coordinator.peers import Opinions, Peer
from learnae.coordinator.settings import Settings
from learnae.genesis import Genesis
from learnae.ledger import Ledger
from learnae.manifest import Manifest
from learnae.wire import CutId, Opinion


@dataclass(frozen=True, slots=True)
class Goal:
    """What to go over to, and why."""

    reason: str
    """For the user."""
    swarm: bytes
    genesis: Genesis
    cut: CutId | None
    """None: the swarm's genesis."""


@dataclass(frozen=True, slots=True)
class AdoptionStatistics:
    """Figures for the status endpoint."""

    adopting: str | None
    """Why another cut is being fetched, if one is."""
    adopted: int
    """How often that was done."""


class Adoption:
    """Watches for reasons to go over, and fetches what is needed for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.goal: Goal | None = None
        self.adopted = 0
        self._since: dict[str, float] = {}
        self._fetching: bytes | None = None
        self._asked: frozenset[bytes] = frozenset()
        self._fetched: bytes | None = None
        self._retry = 0.0
        self._since_goal = 0.0
        self._hopeless: dict[tuple[bytes, CutId | None], float] = {}
        """What could not be fetched or was not as claimed, and until when it is not tried again."""

    @property
    def coming(self) -> bytes | None:
        """The snapshot that is being fetched, or was just now: it must not be deleted."""
        return self._fetching or self._fetched

    def pursue(self, goal: Goal | None, now: float) -> None:
        """Go for this from now on, unless it has proved hopeless; what is under way already is seen through."""
        # A download says itself when it has failed; it may take long.
        if self.goal is not None and self._fetching is None and now - self._since_goal > self._settings.hopeless:
            self._give_up(now)
        if goal is None or self.goal is not None or self._hopeless.get((goal.swarm, goal.cut), 0.0) > now:
            return
        self.goal, self._since_goal, self._retry = goal, now, now
        self._fetching = self._fetched = None

    def _give_up(self, now: float) -> None:
        if self.goal is not None:
            while len(self._hopeless) > 64:
                del self._hopeless[next(iter(self._hopeless))]
            self._hopeless[self.goal.swarm, self.goal.cut] = now + 10 * self._settings.hopeless
            self.goal = self._fetched = None

    def lasting(self, what: str, *, holds: bool, now: float) -> bool:
        """Whether something has held without interruption for as long as patience goes."""
        if not holds:
            self._since.pop(what, None)
            return False
        return now - self._since.setdefault(what, now) >= self._settings.patience

    def due(
        self, cuts: Cuts, holders: list[bytes], snapshots: Callable[[bytes], bool], now: float
    ) -> tuple[list[Action], Manifest | None, bool]:
        """The next step towards the goal.

        Returns:
            What to do; the manifest of the goal's cut; whether all is here, so that it can be loaded now.
        """
        goal = self.goal
        if goal is None:
            return [], None, False
        manifest = None
        weights = goal.genesis.weights
        if goal.cut is not None:
            manifest = cuts.known(goal.cut.cid) or cuts.settled.get(goal.cut.index)
            if manifest is None or manifest.cid != goal.cut.cid:
                return cuts.fetch(goal.cut.cid, holders, now), None, False
            if manifest.swarm != goal.swarm or manifest.index != goal.cut.index:
                self._give_up(now)
                return [], None, False
            weights = manifest.weights
        if snapshots(weights):
            return [], manifest, True
        under_way = self._fetching == weights
        if now < self._retry or (self._asked if under_way else frozenset()).issuperset(holders):
            return [], manifest, False  # nobody has it, or nobody new
        self._asked = (self._asked if under_way else frozenset()).union(holders)
        self._fetching = weights
        return [FetchSnapshot(weights, tuple(holders))], manifest, False

    def fetched(self, weights: bytes, now: float, *, ok: bool) -> None:
        """A snapshot is on disk, or could not be had: then another goal may do."""
        if self._fetching == weights:
            self._fetching, self._fetched = None, weights if ok else None
            if not ok:
                self._retry = now + self._settings.retry

    def reached(self) -> None:
        """The goal's cut was loaded."""
        self.goal = self._fetched = None
        self.adopted += 1
        self._since.clear()

    def shift(self, gap: float) -> None:
        """The clock has jumped by so many seconds."""
        self._since = {what: since + gap for what, since in self._since.items()}
        self._retry += gap
        self._since_goal += gap

    def statistics(self) -> AdoptionStatistics:
        """Figures for the status endpoint."""
        return AdoptionStatistics(self.goal.reason if self.goal else None, self.adopted)


def most_attested(opinions: Opinions, above: int, among: Set[bytes] | None = None) -> CutId | None:
    """The settled cut that most nodes attest, above an interval; of several the newest, then the smallest CID.

    `among`: whose word counts; None: everybody's.
    """
    tally: Counter[CutId] = Counter()
    for opinion, keys in opinions:
        count = len(keys if among is None else keys & among)
        for cut in opinion.settled if count else ():
            if cut.index > above:
                tally[cut] += count
    return min(tally, key=lambda cut: (-tally[cut], -cut.index, cut.cid)) if tally else None


def parted(ledger: Ledger, opinions: Opinions) -> tuple[Opinions, Opinions]:
    """The opinions of those that share the history settled here, and of those who settled another one."""
    ours: list[tuple[Opinion, set[bytes]]] = []
    theirs: list[tuple[Opinion, set[bytes]]] = []
    oldest = ledger.floor.index if ledger.floor is not None else -1
    for opinion, keys in opinions:
        comparable = [cut for cut in opinion.settled if oldest <= cut.index <= ledger.closed]
        if any(ledger.chain.get(cut.index) != cut.cid for cut in comparable):
            theirs.append((opinion, keys))
        elif comparable:
            ours.append((opinion, keys))
    return ours, theirs


def holding(opinions: Opinions) -> set[bytes]:
    """Everybody who is of one of these opinions."""
    return set().union(*(keys for _, keys in opinions))


def heavier(ours: set[bytes], own: Manifest, theirs: set[bytes], other: Manifest) -> bool:
    """Whether the other side of a parted swarm has done more, judged by the newest settled cuts of both.

    More of its nodes among the authors lately, then more updates since genesis, then the smallest key.
    """
    mine = (len(ours & own.authors()), own.updates)
    others = (len(theirs & other.authors()), other.updates)
    return others > mine or (others == mine and min(theirs) < min(ours))


def better_genesis(own: bytes, updates: int, members: int, other: bytes, peers: list[Peer]) -> bool:
    """Whether the swarm of another genesis is to be preferred to the own one, which has so many other members.

    More nodes that have done something, then more updates, then the smaller name.
    """
    beats = [peer.heartbeat for peer in peers if peer.heartbeat is not None]
    working = sum(beat.updates > 0 for beat in beats)
    most = max((beat.updates for beat in beats), default=0)
    mine = (1 + members if updates else 0, updates)
    return (working, most) > mine or ((working, most) == mine and other < own)
