"""Cuts: has them taken, attests them, settles them by majority and brings the own set in line; part of the coordinator.

An interval's cut goes through three stages. It is *taken* a while after the interval has ended, and again whenever
its set of updates changes. If nodes attest different cuts of it for a while, although they exchange updates, it is
*frozen*: from then on the own set only moves towards the cut with the most votes. It is *settled* when more than half
of the electorate attest the same one. The electorate are the authors of the last few intervals by the clock, so that
those who were cut off can come back for a while with what they did, and those who are gone hold nobody up for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from learnae.coordinator.actions import Action, FetchManifest, KeepCut, Notice, Settle, TakeCut
from learnae.coordinator.peers import Members
from learnae.coordinator.settings import Settings
from learnae.errors import WireError
from learnae.ledger import Entry, Ledger
from learnae.manifest import MAX_MANIFEST, Manifest
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
    unsettled: int
    """Cuts taken here that no majority attests yet."""
    disputed: int
    """Intervals of which others attest another cut than this node."""


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
    """No exchange of numbers can do it: the cut follows another one than ours, or has other contents or weights."""

    @property
    def needed(self) -> bool:
        """Whether anything is to change."""
        return bool(self.extra or self.missing or self.beyond)


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
        self._split_since: dict[int, float] = {}
        self._electorate: set[bytes] = set()
        self._over = -1
        """The last interval of which a cut is due."""
        self._claimed: dict[CutId, float] = {}
        self._known: dict[bytes, Manifest] = {}
        self._fetching: dict[bytes, float] = {}
        self._too_large = False

    # --- taking

    def take(self, ledger: Ledger, slot_seconds: float, time: float, now: float, *, ready: bool) -> list[Action]:
        """Have cuts taken of the intervals that have ended; `time` is the swarm's clock, `now` the own one."""
        actions: list[Action] = []
        grace = max(self._settings.cut_grace, 2 * slot_seconds)
        self._over = ledger.rules.interval(int((time - grace) // slot_seconds)) - 1
        due = [i for i in ledger.open_intervals() if i <= self._over]
        for gone in [i for i in self.own if i not in due]:
            del self.own[gone]
        for interval in due:
            total = ledger.total(interval)
            before = [self.own[i].id for i in sorted(self.own) if i < interval]
            own = self.own.get(interval)
            if own is not None and own.total == total and own.lineage == ledger.lineage(interval, before):
                continue
            if total in self._weights:
                manifest = ledger.cut(interval, before, *self._weights[total])
                data = manifest.encode()
                if len(data) > MAX_MANIFEST:
                    return [*actions, *self._refuse(len(data))]
                self.own[interval] = manifest
                actions.append(KeepCut(ledger.swarm, manifest.id, data))
                continue
            # Later cuts name this one as their predecessor: they go with it.
            self.own = {i: manifest for i, manifest in self.own.items() if i < interval}
            if ready:
                actions += self._ask(ledger, interval, total, now)
            break
        return actions

    def _refuse(self, size: int) -> list[Action]:
        """Nobody could read such a cut. That is told once."""
        if self._too_large:
            return []
        self._too_large = True
        text = (
            f"no cut can be taken: its manifest would have {size} bytes, and at most {MAX_MANIFEST} can be sent. There "
            "are too many nodes in this swarm; the log of updates is kept whole, and newcomers fetch all of it"
        )
        return [Notice("warning", text)]

    def _ask(self, ledger: Ledger, interval: int, total: bytes, now: float) -> list[Action]:
        if self._asked is not None and now - self._asked.at < self._settings.retry:
            return []
        if self._asked is not None and self._asked.total == total and now - self._asked.at < 30 * self._settings.retry:
            return []
        self._token += 1
        self._asked = _Asked(self._token, total, now)
        return [TakeCut(interval, self._token, tuple(ledger.entries_after(interval)))]

    @staticmethod
    def _settled(ledger: Ledger, interval: int) -> list[CutId]:
        return list(ledger.lineage(interval, ())[-1:])

    def taken(self, token: int, weights: bytes | None, size: int) -> None:
        """The trainer's answer; without weights it is asked again after a while."""
        if self._asked is None or self._asked.token != token:
            return
        if weights is not None:
            self._weights[self._asked.total] = (weights, size)
            while len(self._weights) > 64:
                del self._weights[next(iter(self._weights))]
            self._asked = None

    def keep(self, snapshots: Iterable[bytes]) -> None:
        """All other snapshots are deleted."""
        kept = set(snapshots)
        self._weights = {total: known for total, known in self._weights.items() if known[0] in kept}

    def trainer_lost(self) -> None:
        """Nobody answers what was asked."""
        self._asked = None

    def attested(self) -> tuple[CutId, ...]:
        """The unsettled cuts that this node holds, oldest first; of many the oldest and the newest ones."""
        cuts = tuple(self.own[i].id for i in sorted(self.own))
        half = MAX_CUTS // 2
        return cuts if len(cuts) <= MAX_CUTS else cuts[:half] + cuts[-half:]

    def newest_settled(self) -> tuple[CutId, ...]:
        """The last settled cuts, oldest first."""
        return tuple(self.settled[i].id for i in sorted(self.settled))[-MAX_CUTS:]

    # --- settling

    def _votes(self, cut: CutId, members: Members) -> set[bytes]:
        votes = members.attesting(cut)
        own = self.own.get(cut.index) or self.settled.get(cut.index)
        return votes | {self._author} if own is not None and own.cid == cut.cid else votes

    def electorate(self, ledger: Ledger, members: Members, interval: int) -> set[bytes]:
        """Whose attestations count now, in this interval: all who did something in the window before it, or in it; if
        nobody did, all who are here."""
        return ledger.authors(interval - ledger.rules.window - 1) or {self._author, *members.keys}

    @property
    def voters(self) -> set[bytes]:
        """The nodes whose word counts at present."""
        return self._electorate

    def votes(self, key: bytes) -> bool:
        """Whether this node's word counts at present."""
        return key in self._electorate

    def settle(
        self, ledger: Ledger, members: Members, electorate: set[bytes], now: float
    ) -> tuple[list[Action], list[Entry]]:
        """Settle what has a majority.

        Returns:
            What to do, and the updates that do not count because of it.
        """
        self._electorate = electorate
        actions: list[Action] = []
        voided: list[Entry] = []
        votes: set[bytes] = set()
        agreed = -1
        for interval in sorted(self.own, reverse=True):
            # Who attests a cut attests those before it, which it names.
            cut = self.own[interval].id
            votes |= self._votes(cut, members)
            if 2 * len(votes & electorate) > len(electorate) or self._settled_elsewhere(cut, members, now):
                agreed = interval
                break
        for interval in sorted(i for i in self.own if i <= agreed):
            manifest = self.settled[interval] = self.own.pop(interval)
            actions.append(Settle(ledger.swarm, manifest.id))
            self._split_since.pop(interval, None)
            voided = ledger.settle(manifest.id)
            if voided:
                break  # The later cuts hold some of them, and are to be taken again.
        if agreed >= 0:
            self.wanted = frozenset()
            self._claimed = {cut: since for cut, since in self._claimed.items() if cut.index > ledger.closed}
        return actions, voided

    def _settled_elsewhere(self, cut: CutId, members: Members, now: float) -> bool:
        """Whether it is claimed for a while that there was a majority for a cut that we hold too."""
        claimed = self._credible(cut, members)
        since = self._claimed.setdefault(cut, now) if claimed else now
        return claimed and now - since >= self._settings.freeze

    def _credible(self, cut: CutId, members: Members) -> bool:
        """Whether more than half of the other voters who are here say that they saw a majority for this cut."""
        voters = members.keys & self._electorate
        return 2 * len(members.claiming(cut) & voters) > len(voters)

    def frozen(self, interval: int, slot_seconds: float, now: float) -> bool:
        """Whether updates of this interval come in only if they are `wanted`."""
        since = self._split_since.get(interval)
        return since is not None and now - since >= self.frost(slot_seconds)

    def frost(self, slot_seconds: float) -> float:
        """Seconds of disagreement after which an interval is frozen."""
        return max(self._settings.freeze, 4 * slot_seconds)

    def due(self, interval: int) -> bool:
        """Whether the cut of this interval is taken already, or soon."""
        return interval <= self._over

    def correct(
        self, ledger: Ledger, members: Members, slot_seconds: float, now: float
    ) -> tuple[list[Action], Correction | None]:
        """Compare the oldest cut that is disputed with what the others attest."""
        opinions = [opinion for opinion, keys in members.opinions if not keys.isdisjoint(self._electorate)]
        attested = {cut for said in opinions for cut in said.attested if ledger.closed < cut.index <= self._over}
        indices = {cut.index for cut in attested} | self.own.keys()
        for interval in [i for i in self._split_since if i not in indices]:
            del self._split_since[interval]
        for interval in indices:
            own = self.own.get(interval)
            if any(cut.index == interval and (own is None or own.cid != cut.cid) for cut in attested):
                self._split_since.setdefault(interval, now)
            else:
                self._split_since.pop(interval, None)
        disputed = [interval for interval in indices if self.frozen(interval, slot_seconds, now)]
        if not disputed:
            return [], None
        for interval in sorted(disputed):
            actions, correction = self._correct(ledger, interval, attested, members, now)
            # Who cannot take cuts, the disk being full perhaps, has nothing to do about this one: the next may differ.
            if interval in self.own or correction is None or correction.needed:
                return actions, correction
        return [], None

    def _correct(
        self, ledger: Ledger, interval: int, attested: set[CutId], members: Members, now: float
    ) -> tuple[list[Action], Correction | None]:
        """Compare the cut of one interval with what the others attest."""
        own = self.own.get(interval)
        cuts = {cut for cut in attested if cut.index == interval} | ({own.id} if own is not None else set())
        votes = {cut: self._votes(cut, members) & self._electorate for cut in cuts}
        claims = {cut: members.claiming(cut) & self._electorate for cut in cuts}
        best = min(cuts, key=lambda cut: (-len(votes[cut]), -len(claims[cut]), cut.cid))
        if own is not None and own.cid == best.cid:
            self.wanted = frozenset()
            return [], None
        holders = sorted(peer.key for peer in members if peer.can_be_asked(now) and peer.attests(best))
        manifest = self._known.get(best.cid)
        if manifest is None:
            return self.fetch(best.cid, holders, now), None
        if own is None and manifest.swarm == ledger.swarm and manifest.total == ledger.total(interval):
            return [], Correction([], frozenset(), holders, beyond=False)
        majority = 2 * len(votes[best]) > len(self._electorate)
        return [], self._difference(ledger, manifest, holders, majority=majority or self._credible(best, members))

    def _difference(
        self, ledger: Ledger, manifest: Manifest, holders: list[bytes], *, majority: bool
    ) -> Correction | None:
        rules = ledger.rules
        shared = [cut for cut in manifest.lineage if cut.index <= ledger.closed]
        if manifest.swarm != ledger.swarm or shared[-1:] != self._settled(ledger, manifest.index):
            return Correction([], frozenset(), holders, beyond=majority)
        # Of what lies further back than its last intervals, a manifest says nothing.
        told = range(manifest.intervals[0].index if len(manifest.intervals) > rules.window else 0, manifest.index + 1)
        extra = [
            entry
            for entry in ledger.entries_after(ledger.closed)
            if rules.interval(entry.slot) in told and not manifest.holds(entry.id, rules.interval(entry.slot))
        ]
        self.wanted = frozenset(
            update
            for interval in manifest.intervals
            if interval.index > ledger.closed
            for update in ledger.vector.missing(interval.vector)
        )
        own = self.own.get(manifest.index)
        same_ids = not extra and not self.wanted and own is not None
        return Correction(extra, self.wanted, holders, beyond=majority and same_ids)

    # --- manifests of others

    def fetch(self, cid: bytes, holders: list[bytes], now: float) -> list[Action]:
        """Ask one of the holders for a manifest, in turn."""
        if not holders or now < self._fetching.get(cid, 0.0):
            return []
        attempt = int(now / self._settings.retry)
        self._fetching = {known: until for known, until in self._fetching.items() if now < until}
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
        self._split_since = {i: since + gap for i, since in self._split_since.items()}
        self._claimed.clear()
        if self._asked is not None:
            self._asked.at += gap

    def statistics(self, members: Members) -> CutsStatistics:
        """Figures for the status endpoint."""
        settled = self.newest_settled()
        newest = self.own[max(self.own)].id if self.own else settled[-1] if settled else None
        votes = self._votes(newest, members) if newest is not None else set()
        return CutsStatistics(
            settled=settled[-1] if settled else None,
            newest=newest,
            votes=len(votes & self._electorate),
            electorate=len(self._electorate),
            unsettled=len(self.own),
            disputed=len(self._split_since),
        )
