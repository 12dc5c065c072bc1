"""Cuts: has them taken, attests them, settles them by majority and brings the own set in line; part of the coordinator.

An interval's cut goes through three stages. It is *taken* a while after the interval has ended, and again whenever
its set of updates changes. It *freezes* when more than half of the electorate has attested some cut of the interval
for a while: from then on the own set only moves towards the cut with the most votes. It is *settled* when more than
half of the electorate attest the same one. The electorate are the authors of the last few intervals.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from learnae.coordinator.actions import Action, FetchManifest, KeepCut, Settle, TakeCut
from learnae.coordinator.peers import Peer
from learnae.coordinator.settings import Settings
from learnae.errors import WireError
from learnae.ledger import Entry, Ledger
from learnae.manifest import Manifest
from learnae.vector import UpdateId
from learnae.wire import MAX_CUTS, CutId


@dataclass(frozen=True, slots=True)
class CutsStatistics:
    """Figures for the status endpoint."""

    settled: CutId | None
    newest: CutId | None
    """The newest cut taken here."""
    votes: int
    electorate: int
    """Who attests that cut, of how many."""


@dataclass(slots=True)
class _Asked:
    token: int
    total: bytes
    at: float


@dataclass(frozen=True, slots=True)
class Correction:
    """How the own set must change to become that of the cut with the most votes."""

    extra: list[Entry]
    missing: frozenset[UpdateId]
    holders: list[bytes]
    beyond: bool
    """No exchange of updates can do it: the cut follows another one than ours, or its weights are others."""


class Cuts:
    """The cuts of one swarm, as one node sees them.

    Args:
        author: the own key, which has a vote.
        settings: time constants.
    """

    def __init__(self, author: bytes, settings: Settings) -> None:
        self._author = author
        self._settings = settings
        self._token = 0
        self.reset()

    def reset(self, settled: Iterable[Manifest] = ()) -> None:
        """Start again with these settled cuts."""
        self.own: dict[int, Manifest] = {}
        """Cuts taken here that are not settled yet."""
        self.settled: dict[int, Manifest] = {manifest.index: manifest for manifest in settled}
        self.wanted: frozenset[UpdateId] = frozenset()
        """Updates of frozen intervals that may still come in."""
        self._asked: _Asked | None = None
        self._weights: dict[bytes, tuple[bytes, int]] = {}
        self._quorum_since: dict[int, float] = {}
        self._known: dict[bytes, Manifest | None] = {}
        self._fetching: dict[bytes, float] = {}

    # --- taking

    def take(self, ledger: Ledger, slot_seconds: float, time: float, now: float, *, ready: bool) -> list[Action]:
        """Have cuts taken of the intervals that have ended; `time` is the swarm's clock, `now` the own one."""
        actions: list[Action] = []
        grace = max(self._settings.cut_grace, 2 * slot_seconds)
        due = [i for i in ledger.open_intervals() if time >= (ledger.rules.last_slot(i) + 1) * slot_seconds + grace]
        for stale in [i for i in self.own if i not in due[:MAX_CUTS]]:
            del self.own[stale]
        for interval in due[:MAX_CUTS]:
            total = ledger.total(interval)
            previous = self._previous(ledger, interval)
            own = self.own.get(interval)
            if own is not None and own.total == total and own.previous == previous:
                continue
            if total in self._weights:
                manifest = ledger.cut(interval, previous, *self._weights[total])
                self.own[interval] = manifest
                actions.append(KeepCut(ledger.swarm, manifest.id, manifest.encode()))
                continue
            self.own.pop(interval, None)
            if ready:
                actions += self._ask(ledger, interval, total, now)
            break  # Later cuts name this one as their predecessor.
        return actions

    def _ask(self, ledger: Ledger, interval: int, total: bytes, now: float) -> list[Action]:
        if self._asked is not None and now - self._asked.at < self._settings.retry:
            return []
        if self._asked is not None and self._asked.total == total and now - self._asked.at < 30 * self._settings.retry:
            return []
        self._token += 1
        self._asked = _Asked(self._token, total, now)
        return [TakeCut(interval, self._token, tuple(ledger.entries_after(interval)))]

    def _previous(self, ledger: Ledger, interval: int) -> CutId | None:
        before = [i for i in self.own if i < interval]
        if before:
            return self.own[max(before)].id
        return self._settled(ledger)

    @staticmethod
    def _settled(ledger: Ledger) -> CutId | None:
        return CutId(ledger.closed, ledger.chain[ledger.closed]) if ledger.chain else None

    def taken(self, token: int, weights: bytes | None, size: int) -> None:
        """The trainer's answer; without weights it is asked again after a while."""
        if self._asked is None or self._asked.token != token:
            return
        if weights is not None:
            self._weights[self._asked.total] = (weights, size)
            while len(self._weights) > 4 * MAX_CUTS:
                del self._weights[next(iter(self._weights))]
            self._asked = None

    def trainer_lost(self) -> None:
        """Nobody answers what was asked."""
        self._asked = None

    def attested(self) -> tuple[CutId, ...]:
        """The unsettled cuts that this node holds, oldest first."""
        return tuple(self.own[i].id for i in sorted(self.own))[:MAX_CUTS]

    def newest_settled(self) -> tuple[CutId, ...]:
        """The last settled cuts, oldest first."""
        return tuple(self.settled[i].id for i in sorted(self.settled))[-MAX_CUTS:]

    # --- settling

    def _votes(self, cut: CutId, members: Iterable[Peer]) -> set[bytes]:
        votes = {peer.key for peer in members if peer.attests(cut)}
        own = self.own.get(cut.index) or self.settled.get(cut.index)
        return votes | {self._author} if own is not None and own.cid == cut.cid else votes

    def settle(self, ledger: Ledger, members: list[Peer]) -> tuple[list[Action], list[Entry]]:
        """Settle what has a majority.

        Returns:
            What to do, and the updates that do not count because of it.
        """
        actions: list[Action] = []
        voided: list[Entry] = []
        votes: set[bytes] = set()
        agreed = -1
        for interval in sorted(self.own, reverse=True):
            # Who attests a cut attests those before it, which it names.
            votes |= self._votes(self.own[interval].id, members)
            electorate = ledger.authors(interval)
            if 2 * len(votes & electorate) > len(electorate):
                agreed = interval
                break
        for interval in sorted(i for i in self.own if i <= agreed):
            manifest = self.settled[interval] = self.own.pop(interval)
            actions.append(Settle(ledger.swarm, manifest.id))
            voided += ledger.settle(manifest.id)
            self._quorum_since.pop(interval, None)
        if agreed >= 0:
            self.wanted = frozenset()
        return actions, [entry for entry in voided if entry in ledger]

    def frozen(self, interval: int, slot_seconds: float, now: float) -> bool:
        """Whether updates of this interval come in only if they are `wanted`."""
        since = self._quorum_since.get(interval)
        return since is not None and now - since >= max(self._settings.freeze, 4 * slot_seconds)

    def correct(
        self, ledger: Ledger, members: list[Peer], slot_seconds: float, now: float
    ) -> tuple[list[Action], Correction | None]:
        """Compare the oldest unsettled cut with what the others attest."""
        attested = {cut for peer in members for cut in peer.cuts() if cut.index > ledger.closed}
        indices = {cut.index for cut in attested} | self.own.keys()
        for interval in list(self._quorum_since):
            if interval not in indices:
                del self._quorum_since[interval]
        for interval in sorted(indices):
            tally = self._tally(interval, attested, members)
            self._watch_quorum(interval, ledger.authors(interval), tally, now)
        if not indices or not self.frozen(min(indices), slot_seconds, now):
            return [], None
        interval = min(indices)
        electorate, tally, own = (
            ledger.authors(interval),
            self._tally(interval, attested, members),
            self.own.get(interval),
        )
        best = min(tally, key=lambda cut: (-len(tally[cut] & electorate), cut.cid))
        if own is not None and own.cid == best.cid:
            self.wanted = frozenset()
            return [], None
        holders = sorted(peer.key for peer in members if peer.connected and peer.attests(best))
        manifest = self._known.get(best.cid)
        if manifest is None:
            return self.fetch(best.cid, holders, now), None
        majority = 2 * len(tally[best] & electorate) > len(electorate)
        return [], self._difference(ledger, manifest, holders, majority=majority)

    def _tally(self, interval: int, attested: set[CutId], members: list[Peer]) -> dict[CutId, set[bytes]]:
        cuts = {cut for cut in attested if cut.index == interval}
        if interval in self.own:
            cuts.add(self.own[interval].id)
        return {cut: self._votes(cut, members) for cut in cuts}

    def _watch_quorum(self, interval: int, electorate: set[bytes], tally: dict[CutId, set[bytes]], now: float) -> None:
        present = set().union(*tally.values()) & electorate
        if 2 * len(present) > len(electorate):
            self._quorum_since.setdefault(interval, now)
        else:
            self._quorum_since.pop(interval, None)

    def _difference(
        self, ledger: Ledger, manifest: Manifest, holders: list[bytes], *, majority: bool
    ) -> Correction | None:
        rules = ledger.rules
        if manifest.swarm != ledger.swarm or manifest.previous != self._settled(ledger):
            return Correction([], frozenset(), holders, beyond=majority)
        extra = [
            entry
            for entry in ledger.entries_after(ledger.closed)
            if rules.interval(entry.slot) <= manifest.index and not manifest.holds(entry.id, rules.interval(entry.slot))
        ]
        self.wanted = frozenset(
            update
            for interval in manifest.intervals
            if interval.index > ledger.closed
            for update in ledger.vector.missing(interval.vector)
        )
        own = self.own.get(manifest.index)
        return Correction(
            extra,
            self.wanted,
            holders,
            beyond=majority and own is not None and own.total == manifest.total and own.weights != manifest.weights,
        )

    # --- manifests of others

    def fetch(self, cid: bytes, holders: list[bytes], now: float) -> list[Action]:
        """Ask one of the holders for a manifest, in turn."""
        if not holders or now < self._fetching.get(cid, 0.0):
            return []
        attempt = int(now / self._settings.retry)
        self._fetching[cid] = now + self._settings.retry
        return [FetchManifest(holders[attempt % len(holders)], cid)]

    def fetched(self, cid: bytes, data: bytes | None) -> bool:
        """A manifest came, its bytes checked against the CID; False if it is none."""
        if data is None:
            return True
        while len(self._known) > 64:
            del self._known[next(iter(self._known))]
        try:
            self._known[cid] = Manifest.decode(data)
        except WireError:
            return False
        return True

    def known(self, cid: bytes) -> Manifest | None:
        """A manifest of others that was fetched."""
        return self._known.get(cid)

    def shift(self, gap: float) -> None:
        """The clock has jumped by so many seconds."""
        self._fetching.clear()
        self._quorum_since = {i: since + gap for i, since in self._quorum_since.items()}
        if self._asked is not None:
            self._asked.at += gap

    def statistics(self, ledger: Ledger, members: list[Peer]) -> CutsStatistics:
        """Figures for the status endpoint."""
        settled = self.newest_settled()
        newest = self.own[max(self.own)].id if self.own else settled[-1] if settled else None
        votes = self._votes(newest, members) if newest is not None else set()
        electorate = ledger.authors(newest.index) if newest is not None else set()
        return CutsStatistics(settled[-1] if settled else None, newest, len(votes & electorate), len(electorate))
