"""What nodes remember of updates: in the ledger, the store and the trainer; used by all of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from learnae.genesis import Genesis
from learnae.vector import UpdateId
from learnae.wire import CutId, Signed, Update


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger remembers of an update; its envelope and payload stay in the store."""

    author: bytes
    seq: int
    slot: int
    samples: int
    norm: float
    share: float
    loss: float | None
    base: CutId | None
    digest: bytes

    id: UpdateId = field(init=False, repr=False, compare=False)
    """Author and number; not unique if the author has signed two contents under one number."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", (self.author, self.seq))

    def __hash__(self) -> int:
        return hash(self.digest)

    @staticmethod
    def of(signed: Signed[Update]) -> Entry:
        """The entry of a verified update."""
        return _entry(signed)


@lru_cache(maxsize=4096)
def _entry(signed: Signed[Update]) -> Entry:
    update = signed.message
    return Entry(
        signed.author,
        update.seq,
        update.slot,
        update.samples,
        update.norm,
        update.share,
        update.loss,
        update.base,
        signed.digest,
    )


@dataclass(frozen=True, slots=True)
class Applied:
    """What a trainer remembers of an update that is in its replica."""

    author: bytes
    seq: int
    digest: bytes
    slot: int
    ratio: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store holds of a swarm."""

    entries: tuple[Entry, ...] = ()
    dropped: tuple[Entry, ...] = ()
    """Updates that do not count any more, whose payload is still there."""
    floor: bytes | None = None
    """Manifest of the cut below which everything was pruned."""
    settled: tuple[CutId, ...] = ()
    """Settled cuts from the floor on, ascending."""
    manifests: tuple[bytes, ...] = ()
    """Their manifests, in the same order."""
    own_seq: int = 0
    """No own number up to here may be used again, whatever the entries say."""
    snapshots: frozenset[bytes] = frozenset()
    """CIDs of the snapshots on disk."""
    adopted: Genesis | None = None
    """The genesis of the swarm that this node has gone over to, if not its own."""
