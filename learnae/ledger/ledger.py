"""The set of admitted updates: exactly-once, order-free; the coordinator asks it what to admit and what is missing."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass

from learnae.ledger.admission import Refusal
from learnae.vector import UpdateId, VersionVector
from learnae.wire import Signed, Update


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger remembers of an update; its envelope and payload stay in the store."""

    author: bytes
    seq: int
    slot: int
    samples: int
    digest: bytes

    @classmethod
    def of(cls, signed: Signed[Update]) -> Entry:
        """The entry of a verified update."""
        update = signed.message
        return cls(signed.author, update.seq, update.slot, update.samples, signed.digest)


@dataclass(frozen=True, slots=True)
class LedgerStatistics:
    """Figures for the status endpoint."""

    updates: int
    authors: int
    samples: int
    digest: str


class Ledger:
    """A grow-only set of updates (a state-based CRDT: merging is set union).

    Args:
        swarm: the 32 bytes that name the swarm; updates of another one are refused.
        slot_tolerance: how many slots ahead of the own clock an update may be. Larger forgives worse clocks and lets
            a cheater reserve slots ahead.
    """

    def __init__(self, swarm: bytes, slot_tolerance: int = 2) -> None:
        self.swarm = swarm
        self.vector = VersionVector()
        self._slot_tolerance = slot_tolerance
        self._entries: dict[UpdateId, Entry] = {}
        self._seqs: dict[bytes, list[int]] = {}
        self._sum = 0
        self._samples = 0

    def examine(self, signed: Signed[Update], slot_now: int) -> Refusal | None:
        """Why this update may not be added now, or None."""
        update = signed.message
        if update.swarm != self.swarm:
            return Refusal.WRONG_SWARM
        known = self._entries.get((signed.author, update.seq))
        if known is not None:
            return Refusal.DUPLICATE if known.digest == signed.digest else Refusal.CONFLICT
        if update.slot > slot_now + self._slot_tolerance:
            return Refusal.FUTURE_SLOT
        if not self._slots_ascend(signed.author, update.seq, update.slot):
            return Refusal.SLOT_ORDER
        if not self.vector.has_room(signed.author, update.seq):
            return Refusal.CROWDED
        return None

    def _slots_ascend(self, author: bytes, seq: int, slot: int) -> bool:
        seqs = self._seqs.get(author, [])
        at = bisect_left(seqs, seq)
        after_previous = at == 0 or self._entries[author, seqs[at - 1]].slot < slot
        before_next = at == len(seqs) or slot < self._entries[author, seqs[at]].slot
        return after_previous and before_next

    def add(self, entry: Entry) -> bool:
        """Add an examined update, or one from the own store; False if it was already there."""
        if not self.vector.add(entry.author, entry.seq):
            return False
        self._entries[entry.author, entry.seq] = entry
        insort(self._seqs.setdefault(entry.author, []), entry.seq)
        self._samples += entry.samples
        self._sum = (self._sum + int.from_bytes(entry.digest)) % 2**256
        return True

    @property
    def digest(self) -> bytes:
        """16 bytes that are equal for equal sets of updates, whatever order they came in.

        A sum of the updates' hashes, so that it costs the same however many there are. It tells honest nodes that they
        differ; it does not prove equality against somebody who signs millions of updates to forge it.
        """
        return self._sum.to_bytes(32)[:16]

    def last(self, author: bytes) -> Entry | None:
        """The author's update with the highest sequence number."""
        seqs = self._seqs.get(author)
        return self._entries[author, seqs[-1]] if seqs else None

    def entries(self) -> Iterator[Entry]:
        """Every update, oldest slot first."""
        return iter(sorted(self._entries.values(), key=lambda entry: (entry.slot, entry.author, entry.seq)))

    def missing_at(self, vector: VersionVector) -> list[UpdateId]:
        """The ids that a node with this vector lacks, oldest slot first."""
        return sorted(vector.missing(self.vector), key=lambda update: (self._entries[update].slot, update))

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, update: UpdateId) -> bool:
        return update in self._entries

    def statistics(self) -> LedgerStatistics:
        """Figures for the status endpoint."""
        return LedgerStatistics(len(self), len(self._seqs), self._samples, self.digest.hex())
