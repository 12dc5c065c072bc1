"""The manifest of a cut: which updates it holds, what they were like, where its weights are; made by the ledger.

A cut is the swarm's model at the end of an interval: genesis plus all updates up to there. Its manifest depends on
that set of updates alone, so nodes that hold the same set make the same bytes, and attest the same CID.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

from learnae import dagcbor, schema
from learnae.cid import DAG_CBOR, make_cid
from learnae.dagcbor import Link
from learnae.errors import WireError
from learnae.vector import UpdateId, VersionVector
from learnae.wire import MAX_BLOCK, CutId

MAX_MANIFEST: Final = MAX_BLOCK
"""Most bytes of a manifest: some 4,000 authors in each of its intervals, as many as a vector has."""
MAX_INTERVALS: Final = 102
MAX_UPDATES: Final = 16_384
"""Most updates of an interval; a vector of a few bytes could claim 2**53."""
ZERO: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Interval:
    """The updates of one interval between two cuts, and what they were like."""

    index: int
    vector: VersionVector
    norm: float
    """Median (the lower one) of the updates' norms, in weight units, without those that are zero; 0 if all are."""
    samples: int
    """Median (the lower one) of the samples behind an update."""
    loss: float | None
    """Mean of the authors' training losses."""

    def __hash__(self) -> int:
        return hash((self.index, self.norm, self.samples, self.loss))

    def to_wire(self) -> list[Any]:
        """Plain CBOR values."""
        return [self.index, self.vector.to_wire(), self.norm, self.samples, self.loss]

    @classmethod
    def from_wire(cls, value: Any) -> Interval:
        """The interval in decoded CBOR; raises WireError."""
        interval = cls(
            *schema.record(
                value,
                schema.integer(),
                VersionVector.from_wire,
                schema.number(0.0, 1e30),
                schema.integer(),
                schema.optional(schema.number(-1e30, 1e30)),
            )
        )
        if not interval.vector.authors:
            raise WireError("an interval without updates has no place in a manifest")
        if len(interval.vector) > MAX_UPDATES:
            raise WireError(f"an interval of {len(interval.vector)} updates; at most {MAX_UPDATES} are possible")
        return interval


@dataclass(frozen=True)
class Manifest:
    """What a cut is. Raises `WireError` from `decode` for whatever is not one."""

    swarm: bytes
    index: int
    """The interval that the cut ends with."""
    lineage: tuple[CutId, ...]
    """The settled cuts before it, oldest first, the last `Rules.staleness` + 1 of them."""
    intervals: tuple[Interval, ...]
    """The last intervals that have updates, oldest first, `Rules.window` + 1 of them; the last one is `index`."""
    total: bytes
    """Sum of the digests of all updates since genesis, modulo 2**256 (32 bytes)."""
    updates: int
    samples: int
    """Of all updates since genesis, each counted up to a multiple of what was usual."""
    weights: bytes
    """CID of the snapshot: the only link, so that who pins a cut pins its weights, and not all cuts before it."""
    size: int
    """Bytes of the snapshot."""

    def encode(self) -> bytes:
        """The manifest as bytes."""
        return _encoded(self)

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """The manifest in these bytes."""
        manifest = cls(
            *schema.record(
                dagcbor.decode(data, MAX_MANIFEST),
                schema.octets(32),
                schema.integer(),
                schema.sequence(CutId.from_wire, MAX_INTERVALS),
                schema.sequence(Interval.from_wire, MAX_INTERVALS),
                schema.octets(32),
                schema.integer(),
                schema.integer(),
                schema.link,
                schema.integer(1),
            )
        )
        indices = [interval.index for interval in manifest.intervals]
        before = [cut.index for cut in manifest.lineage]
        ascending = indices == sorted(set(indices)) and before == sorted(set(before))
        ascending = ascending and (not before or before[-1] < manifest.index)
        if not indices or indices[-1] != manifest.index or not ascending:
            raise WireError("a manifest's intervals and lineage ascend, and the last interval is the cut's own")
        return manifest

    @cached_property
    def cid(self) -> bytes:
        """What names the cut."""
        return make_cid(DAG_CBOR, self.encode())

    @property
    def id(self) -> CutId:
        """Index and CID."""
        return CutId(self.index, self.cid)

    @property
    def previous(self) -> CutId | None:
        """The settled cut before it; None for the first one."""
        return self.lineage[-1] if self.lineage else None

    def holds(self, update: UpdateId, interval: int) -> bool:
        """Whether the cut has this update in this interval, which must be one of `intervals`."""
        return any(i.index == interval and update in i.vector for i in self.intervals)

    def authors(self) -> set[bytes]:
        """Who has an update in the intervals."""
        return {author for interval in self.intervals for author in interval.vector.authors}


@lru_cache(maxsize=8)
def _encoded(manifest: Manifest) -> bytes:
    """The bytes of a manifest: wanted for its name, for the disk and for others, and the same on every node."""
    return dagcbor.encode(
        [
            *(manifest.swarm, manifest.index, [cut.to_wire() for cut in manifest.lineage]),
            [interval.to_wire() for interval in manifest.intervals],
            *(manifest.total, manifest.updates, manifest.samples, Link(manifest.weights), manifest.size),
        ]
    )
