"""The set of admitted updates: exactly-once, order-free; the coordinator asks it what to admit and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from learnae.ledger.admission import Refusal
from learnae.ledger.bounds import Bounds, summarise
from learnae.ledger.entry import Entry
from learnae.manifest import Interval, Manifest
from learnae.rules import FULL, Rules
from learnae.schema import MAX_INT
from learnae.vector import UpdateId, VersionVector
from learnae.wire import CutId, Signed, SyncRequest, Update


@dataclass(frozen=True, slots=True)
class LedgerStatistics:
    """Figures for the status endpoint."""

    updates: int
    authors: int
    samples: int
    digest: str
    clipped: int
    """Updates above the floor that count by less than the whole."""
    closed: int | None
    """The interval of the newest settled cut."""
    floor: int | None
    """The interval of the cut below which the log is pruned."""


class Ledger:
    """A set of updates in which union is merging; what each counts for is a function of the set.

    Below the *floor*, a settled cut, only its manifest is left. Up to the interval `closed` the set is settled: nothing
    comes in there any more. Above, updates come and go until the nodes agree.

    Args:
        swarm: the 32 bytes that name the swarm; updates of another one are refused.
        rules: the swarm's rules.
        floor: the cut to start from; None for genesis.
        slot_tolerance: how many slots ahead of the own clock an update may be. Larger forgives worse clocks and lets
            a cheater reserve slots ahead.
    """

    def __init__(
        self, swarm: bytes, rules: Rules | None = None, floor: Manifest | None = None, slot_tolerance: int = 2
    ) -> None:
        self.swarm = swarm
        self.rules = rules or Rules()
        self.floor = floor
        self.closed = floor.index if floor else -1
        self.chain: dict[int, bytes] = {c.index: c.cid for c in (*floor.lineage, floor.id)} if floor else {}
        """CIDs of the settled cuts, as far back as an update may stand on them."""
        self.vector = VersionVector()
        self.forked: set[bytes] = set()
        """Authors who signed two updates for one slot or under one number."""
        self._slot_tolerance = slot_tolerance
        self._intervals: dict[int, dict[UpdateId, Entry]] = {}
        self._slots: dict[tuple[bytes, int], Entry] = {}
        self._ratios: dict[bytes, int] = {}
        self._summaries: dict[int, Interval] = {}
        self._authors: dict[int, set[bytes]] = {}
        self._bounds: dict[int, Bounds] = {}
        self._new: list[Entry] = []
        self._unsure: set[int] = set()
        """Intervals whose bounds may have changed."""
        self._early: set[int] = set()
        """Intervals without any far enough before them, whose updates bound each other."""
        self._sums: dict[int, int] = {}
        self._sum = int.from_bytes(floor.total) if floor else 0
        if floor is not None:
            for interval in floor.intervals:
                self.vector.update(interval.vector)

    # --- what may come in

    def examine(self, signed: Signed[Update], slot_now: int) -> Refusal | None:
        """Why this update may not be added now, or None. The set `rivals` must go when it is added."""
        if signed.message.swarm != self.swarm:
            return Refusal.WRONG_SWARM
        entry = Entry.of(signed)
        interval = self.rules.interval(entry.slot)
        if entry in self:
            return Refusal.DUPLICATE
        if entry.slot > slot_now + self._slot_tolerance:
            return Refusal.FUTURE_SLOT
        if interval <= self.closed:
            return Refusal.LATE
        if not self.is_fresh(entry):
            return Refusal.STALE
        if self.is_foreign(entry):
            return Refusal.OTHER_LINEAGE
        if not self._wins(entry):
            self.forked.add(entry.author)
            return Refusal.CONFLICT
        if not self.vector.has_room(entry.author, entry.seq):
            return Refusal.CROWDED
        return None

    def is_fresh(self, entry: Entry) -> bool:
        """Whether the cut that the author's weights stand on precedes the update, and not by too many others."""
        interval = self.rules.interval(entry.slot)
        base = entry.base.index if entry.base is not None else -1
        if base >= interval:
            return False
        if len(self.chain) <= self.rules.staleness:
            return True
        return sum(base < index < interval for index in self.chain) <= self.rules.staleness

    def is_foreign(self, entry: Entry) -> bool:
        """Whether the author's weights stand on another history than the one settled here.

        A base that is not settled here yet is believed for the time being.
        """
        base = entry.base
        if base is None or base.index > self.closed:
            return False
        return self.chain.get(base.index) != base.cid

    def _wins(self, entry: Entry) -> bool:
        rivals = self.rivals(entry)
        if rivals and any(self.rules.interval(rival.slot) <= self.closed for rival in rivals):
            return False
        if self._settled_number(entry):
            return False
        return not rivals or all(self._rank(entry) < self._rank(rival) for rival in rivals)

    def _rank(self, entry: Entry) -> tuple[int, bytes]:
        # The earlier interval first: what some may have settled already cannot be pushed out by what comes later.
        return self.rules.interval(entry.slot), entry.digest

    def _settled_number(self, entry: Entry) -> bool:
        """Whether the floor knows of an update with this number, not long before."""
        if self.floor is None:
            return False
        oldest = self.rules.interval(entry.slot) - self.rules.window
        return any(i.index >= oldest and entry.id in i.vector for i in self.floor.intervals)

    def rivals(self, entry: Entry) -> list[Entry]:
        """Updates of the same author for the same slot, or, not far from it, under the same number.

        Only the one of the earliest interval, with the smallest digest there, may count. How far is bounded, so that
        nodes which have forgotten more or less of the past decide alike.
        """
        interval, window = self.rules.interval(entry.slot), self.rules.window
        name = entry.id
        near = []
        if entry.seq <= self.vector.last(entry.author):
            for i, entries in self._intervals.items():
                if name in entries and -window <= i - interval <= window:
                    near.append(entries[name])
        if (same := self._slots.get((entry.author, entry.slot))) is not None:
            near.append(same)
        if not near:
            return []
        return list({rival.digest: rival for rival in near if rival.digest != entry.digest}.values())

    # --- the set

    def add(self, entry: Entry) -> None:
        """Add an examined update, or one from the own store, once. Its rivals must have been removed."""
        interval, name = self.rules.interval(entry.slot), entry.id
        entries = self._intervals.setdefault(interval, {})
        known = entries.get(name)
        if known is not None and known.digest == entry.digest:
            return
        entries[name] = self._slots[entry.author, entry.slot] = entry
        self.vector.add(*name)
        self._count(interval, int.from_bytes(entry.digest))
        self._new.append(entry)

    def remove(self, entry: Entry) -> None:
        """Take an update out of the set: a settled cut, or a rival, says that it does not count."""
        interval = self.rules.interval(entry.slot)
        entries = self._intervals[interval]
        del entries[entry.id], self._slots[entry.author, entry.slot]
        if not any(entry.id in entries for entries in self._intervals.values()):
            self.vector.discard(*entry.id)
        self._ratios.pop(entry.digest, None)
        self._count(interval, -int.from_bytes(entry.digest))
        if not entries:
            del self._intervals[interval], self._sums[interval]

    def _count(self, interval: int, digest: int) -> None:
        self._sum = (self._sum + digest) % 2**256
        self._sums[interval] = self._sums.get(interval, 0) + digest
        self._summaries.pop(interval, None)
        self._authors.pop(interval, None)
        for i in self._bounds:
            if i >= interval + 2 or (i >= interval and i in self._early):
                self._unsure.add(i)

    def __contains__(self, entry: Entry) -> bool:
        known = self._intervals.get(self.rules.interval(entry.slot), {}).get(entry.id)
        return known is not None and known.digest == entry.digest

    def find(self, author: bytes, seq: int) -> Entry | None:
        """The newest update of this author under this number, above the floor."""
        for interval in sorted(self._intervals, reverse=True):
            if (author, seq) in self._intervals[interval]:
                return self._intervals[interval][author, seq]
        return None

    def __len__(self) -> int:
        return (self.floor.updates if self.floor else 0) + len(self._slots)

    @property
    def digest(self) -> bytes:
        """16 bytes that are equal for equal sets of updates, whatever order they came in.

        A sum of the updates' hashes, so that it costs the same however many there are. It tells honest nodes that they
        differ; it does not prove equality against somebody who signs millions of updates to forge it.
        """
        return self._sum.to_bytes(32)[:16]

    def entries(self) -> list[Entry]:
        """Every update above the floor, oldest slot first."""
        return _ordered(entry for entries in self._intervals.values() for entry in entries.values())

    def entries_after(self, interval: int) -> list[Entry]:
        """The updates of all later intervals, oldest slot first."""
        return _ordered(e for i, entries in self._intervals.items() if i > interval for e in entries.values())

    def last_slot(self, author: bytes) -> int:
        """The newest slot in which this author has an update above the floor; -1 if there is none."""
        return max((slot for key, slot in self._slots if key == author), default=-1)

    # --- what each update counts for

    def ratio(self, entry: Entry) -> int:
        """By which part of itself (of `rules.FULL`) this update counts, as it was last decided by `reweigh`."""
        return self._ratios.get(entry.digest, FULL)

    def samples(self, entry: Entry) -> int:
        """The samples that are believed to be behind this update: learning rates depend on their sum."""
        return self._bounds_of(self.rules.interval(entry.slot)).counted(entry)

    def _samples_of(self, interval: int) -> int:
        return sum(map(self._bounds_of(interval).counted, self._intervals[interval].values()))

    def weigh(self) -> list[tuple[Entry, int]]:
        """What each update that came since the last time counts for, by the bounds as they were."""
        weighed: list[tuple[Entry, int]] = []
        for entry in self._new:
            if entry in self and entry.digest not in self._ratios:
                ratio = self._ratios[entry.digest] = self._bounds_of(self.rules.interval(entry.slot)).ratio(entry)
                weighed.append((entry, ratio))
        self._new.clear()
        return weighed

    def reweigh(self) -> list[tuple[Entry, int | None, int]]:
        """Decide anew what counts for how much, after updates came or went.

        Returns:
            Each update that is new, or now counts differently: itself, its ratio before (None: it is new), its ratio
            now.
        """
        changes: list[tuple[Entry, int | None, int]] = [(entry, None, ratio) for entry, ratio in self.weigh()]
        for interval in sorted(self._unsure):
            self._bounds.pop(interval, None)
            for entry in self._intervals.get(interval, {}).values():
                before, after = self._ratios.get(entry.digest), self._bounds_of(interval).ratio(entry)
                if before is not None and before != after:
                    self._ratios[entry.digest] = after
                    changes.append((entry, before, after))
        self._unsure.clear()
        return changes

    def _bounds_of(self, interval: int) -> Bounds:
        # The interval just before is left out: its updates may still be on their way when ours come.
        if interval not in self._bounds:
            past = self._recent(interval - 2)
            (self._early.discard if past else self._early.add)(interval)
            self._bounds[interval] = Bounds.after(past or self._recent(interval), self.rules)
        return self._bounds[interval]

    def _recent(self, interval: int, extra: int = 0) -> list[Interval]:
        """The last intervals up to this one that have updates, oldest first: as many as the window, and `extra`."""
        indices = sorted(i for i in self._indices() if i <= interval)[-self.rules.window - extra :]
        return [self._summary(i) for i in indices]

    def _indices(self) -> set[int]:
        below = {i.index for i in self.floor.intervals} if self.floor else set()
        return below | self._intervals.keys()

    def _summary(self, interval: int) -> Interval:
        if self.floor is not None and interval <= self.floor.index:
            return next(i for i in self.floor.intervals if i.index == interval)
        if interval not in self._summaries:
            self._summaries[interval] = summarise(interval, self._intervals[interval].values())
        return self._summaries[interval]

    # --- cuts

    def open_intervals(self) -> list[int]:
        """The intervals with updates that are not settled yet, ascending."""
        return sorted(i for i in self._intervals if i > self.closed)

    def total(self, interval: int) -> bytes:
        """The sum of the digests of all updates up to the end of an interval (32 bytes): names that set."""
        later = sum(total for i, total in self._sums.items() if i > interval)
        return ((self._sum - later) % 2**256).to_bytes(32)

    def cut(self, interval: int, unsettled: Sequence[CutId], weights: bytes, size: int) -> Manifest:
        """The manifest of the cut at the end of an interval that has updates, after these `unsettled` ones."""
        below = [i for i in self._intervals if i <= interval]
        return Manifest(
            swarm=self.swarm,
            index=interval,
            lineage=self.lineage(interval, unsettled),
            intervals=tuple(self._recent(interval, extra=1)),
            total=self.total(interval),
            updates=(self.floor.updates if self.floor else 0) + sum(len(self._intervals[i]) for i in below),
            samples=min((self.floor.samples if self.floor else 0) + sum(map(self._samples_of, below)), MAX_INT),
            weights=weights,
            size=size,
        )

    def lineage(self, interval: int, unsettled: Iterable[CutId]) -> tuple[CutId, ...]:
        """The last cuts before an interval, oldest first: all on which an update may stand."""
        settled = (CutId(index, cid) for index, cid in sorted(self.chain.items()))
        return tuple(c for c in (*settled, *unsettled) if c.index < interval)[-self.rules.staleness - 1 :]

    def authors(self, after: int) -> set[bytes]:
        """Who has updates in any interval after this one."""
        below = [i.vector.held for i in self.floor.intervals if i.index > after] if self.floor else []
        return set().union(*below, *(self._authors_of(i) for i in self._intervals if i > after))

    def _authors_of(self, interval: int) -> set[bytes]:
        if interval not in self._authors:
            self._authors[interval] = {author for author, _ in self._intervals[interval]}
        return self._authors[interval]

    def settle(self, cut: CutId) -> list[Entry]:
        """Close everything up to this cut, whose set is ours.

        Returns:
            Later updates that stand on another history, or too far back; they must be removed.
        """
        self.closed = cut.index
        self.chain[cut.index] = cut.cid
        return [e for e in self.entries_after(cut.index) if self.is_foreign(e) or not self.is_fresh(e)]

    def prune(self, floor: Manifest) -> None:
        """Forget the updates of this settled cut, one by one; its manifest stands for them from now on."""
        for interval in [i for i in self._intervals if i <= floor.index]:
            for entry in self._intervals.pop(interval).values():
                del self._slots[entry.author, entry.slot]
                self._ratios.pop(entry.digest, None)
            del self._sums[interval]
            self._summaries.pop(interval, None)
            self._authors.pop(interval, None)
        self._bounds = {i: bounds for i, bounds in self._bounds.items() if i > floor.index}
        self._early.intersection_update(self._bounds)
        self._unsure.intersection_update(self._bounds)
        self.floor = floor
        oldest = floor.lineage[0].index if floor.lineage else floor.index
        self.chain = {i: cid for i, cid in self.chain.items() if i >= oldest}
        self.vector = VersionVector()
        for summary in floor.intervals:
            self.vector.update(summary.vector)
        for entry in self._slots.values():
            self.vector.add(*entry.id)

    # --- what others lack

    @property
    def horizon(self) -> int:
        """The last slot that is settled: what others have up to there is of no use here."""
        return self.rules.last_slot(self.closed) if self.closed >= 0 else -1

    def request(self, known: Iterable[UpdateId] = ()) -> SyncRequest:
        """Asks for what is missing here, except `known` updates, which are on their way already."""
        vector = self.vector.copy()
        for update in known:
            vector.add(*update)
        return SyncRequest(self.swarm, vector, self.horizon, tuple(self._author_sums(self.horizon).items()))

    def _author_sums(self, horizon: int) -> dict[bytes, bytes]:
        sums: dict[bytes, int] = {}
        for entry in self._slots.values():
            if entry.slot > horizon:
                sums[entry.author] = sums.get(entry.author, 0) + int.from_bytes(entry.digest[:8])
        return {author: (sums[author] % 2**64).to_bytes(8) for author in sorted(sums)}

    def missing_at(self, request: SyncRequest) -> list[Entry]:
        """The updates that the sender of this request lacks and may still take, oldest slot first.

        Where the contents differ under the same numbers, or an author is known to sign twice, all of that author's.
        """
        theirs: dict[bytes, bytes] = dict(request.sums)
        above = [entry for entry in self._slots.values() if entry.slot > request.floor]
        lacking = [entry for entry in above if entry.id not in request.vector]
        held = self._author_sums(request.floor)
        for entry in lacking:
            rest = int.from_bytes(held[entry.author]) - int.from_bytes(entry.digest[:8])
            held[entry.author] = (rest % 2**64).to_bytes(8)
        differing = {
            author
            for author, total in held.items()
            if theirs.get(author, bytes(8)) != total
            and (author in self.forked or self.vector.last(author) >= request.vector.last(author))
        }
        return _ordered({*lacking, *(entry for entry in above if entry.author in differing)})

    def statistics(self) -> LedgerStatistics:
        """Figures for the status endpoint."""
        samples = sum(map(self.samples, self._slots.values()))
        return LedgerStatistics(
            updates=len(self),
            authors=len(self.vector.authors),
            samples=samples + (self.floor.samples if self.floor else 0),
            digest=self.digest.hex(),
            clipped=sum(ratio < FULL for ratio in self._ratios.values()),
            closed=self.closed if self.closed >= 0 else None,
            floor=self.floor.index if self.floor else None,
        )


def _ordered(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry.slot, entry.author, entry.seq))
