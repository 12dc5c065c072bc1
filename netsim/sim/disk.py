"""What survives a crash of a simulated node: the store, the snapshots, the trainer's checkpoint; used by the nodes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from learnae.coordinator import actions
from learnae.genesis import Genesis
from learnae.learner import Round
from learnae.ledger import Applied, Entry, Kept
from learnae.manifest import ZERO
from learnae.replica import Replica
from learnae.wire import CutId, Signed, Update


@dataclass(slots=True)
class Books:
    """What the trainer keeps beside its numbers, as `learnaed.trainer.books` does."""

    base: bytes | None = None
    total: bytes = ZERO
    applied: dict[bytes, Applied] = field(default_factory=dict)
    """What is in the replica above the base, by digest."""
    void: set[bytes] = field(default_factory=set)
    """Digests of those that add nothing."""
    own_seq: int = 0
    outbox: tuple[Round, float, int] | None = None
    """A round that was handed in and not answered yet, its share, and the own number before it."""

    def copy(self) -> Books:
        """As they are now."""
        return replace(self, applied=dict(self.applied), void=set(self.void))

    def stand_on(self, base: bytes | None, total: bytes, slot: int | None = None) -> None:
        """The replica stands on this cut from now on, which holds all updates up to this slot, or simply all."""
        self.base, self.total = base, total
        self.applied = {d: row for d, row in self.applied.items() if slot is not None and row.slot > slot}
        self.void &= self.applied.keys()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a trainer has saved of itself."""

    books: Books
    state: Any


@dataclass(slots=True)
class Disk:
    """The store of one node; it carries out what must be durable before anything else is done."""

    updates: dict[bytes, Signed[Update]] = field(default_factory=dict)
    """What counts, by digest."""
    dropped: dict[bytes, Signed[Update]] = field(default_factory=dict)
    blocks: dict[bytes, bytes] = field(default_factory=dict)
    """Parts of updates that did not fit into their envelopes, by CID."""
    manifests: dict[bytes, tuple[bytes, CutId, bytes]] = field(default_factory=dict)
    """Swarm, name and bytes of each, by CID."""
    settled: dict[bytes, CutId] = field(default_factory=dict)
    floors: dict[bytes, CutId] = field(default_factory=dict)
    adopted: dict[bytes, tuple[bytes, Genesis]] = field(default_factory=dict)
    own_seq: int = 0
    snapshots: dict[bytes, Replica] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None

    def kept(self, own: bytes) -> Kept:
        """What the store holds of the swarm that this one belongs, or went over, to."""
        swarm, adopted = self.adopted.get(own, (own, None))
        floor = self.floors.get(swarm)
        mine = [cut for cid, cut in self.settled.items() if self.manifests[cid][0] == swarm]
        settled = sorted(mine, key=lambda cut: cut.index)
        return Kept(
            entries=tuple(Entry.of(stored) for stored in self.updates.values() if stored.message.swarm == swarm),
            dropped=tuple(Entry.of(stored) for stored in self.dropped.values() if stored.message.swarm == swarm),
            floor=self.manifests[floor.cid][2] if floor else None,
            settled=tuple(settled),
            manifests=tuple(self.manifests[cut.cid][2] for cut in settled),
            own_seq=self.own_seq,
            snapshots=frozenset(self.snapshots),
            adopted=adopted,
        )

    def parts(self, digest: bytes) -> tuple[bytes, ...]:
        """The payload of a stored update, whether it counts or not."""
        update = (self.updates.get(digest) or self.dropped[digest]).message
        return (update.payload,) if update.payload else tuple(self.blocks[part.cid] for part in update.parts)

    def prune(self, action: actions.Prune) -> None:
        """Delete what the floor stands for."""
        self.floors[action.swarm] = action.floor
        self.own_seq = max(self.own_seq, action.own_seq)
        for kept in (self.updates, self.dropped):
            old = [s for s in kept.values() if s.message.swarm == action.swarm and s.message.slot <= action.slot]
            for stored in old:
                del kept[stored.digest]
                for part in stored.message.parts:
                    self.blocks.pop(part.cid, None)
        floor = action.floor
        for cid, (swarm, cut, _) in list(self.manifests.items()):
            other = cut.index == floor.index and cid != floor.cid
            if swarm == action.swarm and (cut.index < floor.index or other):
                del self.manifests[cid]
                self.settled.pop(cid, None)
        self.snapshots = {cid: replica for cid, replica in self.snapshots.items() if cid in action.snapshots}
