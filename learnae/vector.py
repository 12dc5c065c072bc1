"""Version vectors: which updates a replica holds, as ranges of sequence numbers for each author."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, KeysView
from itertools import pairwise
from typing import Any

from learnae import schema
from learnae.errors import WireError
from learnae.peer import KEY_BYTES

MAX_AUTHORS = 4096
MAX_RANGES = 16384
MAX_GAPS = 256
"""Most ranges of one author; those in between come first, by repair."""

UpdateId = tuple[bytes, int]
"""(author, sequence number)."""


class VersionVector:
    """A set of update ids, compact because each author numbers its updates 1, 2, 3 ...

    Adding commutes and is idempotent: vectors that were fed the same ids in any order are equal.
    """

    __slots__ = ("_held", "_ranges")

    def __init__(self) -> None:
        # For each author disjoint, ascending, non-adjacent (first, last) ranges, both included.
        self._ranges: dict[bytes, list[tuple[int, int]]] = {}
        self._held = 0
        """Ranges of all authors."""

    def add(self, author: bytes, seq: int) -> bool:
        """Add one id; False if it was already there."""
        ranges = self._ranges.setdefault(author, [])
        at = bisect_right(ranges, (seq, schema.MAX_INT))
        first = last = seq
        if at and ranges[at - 1][1] >= seq:
            return False
        stop = at
        if at and ranges[at - 1][1] == seq - 1:
            at -= 1
            first = ranges[at][0]
        if stop < len(ranges) and ranges[stop][0] == seq + 1:
            last = ranges[stop][1]
            stop += 1
        self._held += 1 - (stop - at)
        ranges[at:stop] = [(first, last)]
        return True

    def discard(self, author: bytes, seq: int) -> None:
        """Take one id out, if it is there."""
        ranges = self._ranges.get(author, [])
        at = bisect_right(ranges, (seq, schema.MAX_INT)) - 1
        if at < 0 or ranges[at][1] < seq:
            return
        first, last = ranges[at]
        rest = [pair for pair in ((first, seq - 1), (seq + 1, last)) if pair[0] <= pair[1]]
        self._held += len(rest) - 1
        ranges[at : at + 1] = rest
        if not ranges:
            del self._ranges[author]

    def update(self, other: VersionVector) -> None:
        """Add all ids of another vector; cheap however large its ranges are."""
        for author, theirs in other._ranges.items():
            merged: list[tuple[int, int]] = []
            for first, last in sorted([*self._ranges.get(author, []), *theirs]):
                if merged and first <= merged[-1][1] + 1:
                    merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
                else:
                    merged.append((first, last))
            self._held += len(merged) - len(self._ranges.get(author, ()))
            self._ranges[author] = merged

    def __contains__(self, update: UpdateId) -> bool:
        author, seq = update
        ranges = self._ranges.get(author, [])
        at = bisect_right(ranges, (seq, schema.MAX_INT))
        return at > 0 and ranges[at - 1][1] >= seq

    def __len__(self) -> int:
        return sum(last - first + 1 for ranges in self._ranges.values() for first, last in ranges)

    def __iter__(self) -> Iterator[UpdateId]:
        for author in sorted(self._ranges):
            for first, last in self._ranges[author]:
                for seq in range(first, last + 1):
                    yield author, seq

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VersionVector) and self._ranges == other._ranges

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"VersionVector({len(self._ranges)} authors, {len(self)} updates)"

    def has_room(self, author: bytes, seq: int) -> bool:
        """Whether adding this id keeps the vector within what `from_wire` takes: others must be able to read it."""
        ranges = self._ranges.get(author)
        if ranges is None:
            return len(self._ranges) < MAX_AUTHORS and self._held < MAX_RANGES
        grows = (author, seq - 1) not in self and (author, seq + 1) not in self
        return not grows or (self._held < MAX_RANGES and len(ranges) < MAX_GAPS)

    @property
    def held(self) -> KeysView[bytes]:
        """Everybody with at least one update, in no order."""
        return self._ranges.keys()

    @property
    def authors(self) -> list[bytes]:
        """Everybody with at least one update, in ascending order of key."""
        return sorted(self._ranges)

    def last(self, author: bytes) -> int:
        """The highest number of this author; 0 if there is none."""
        ranges = self._ranges.get(author)
        return ranges[-1][1] if ranges else 0

    def lacks(self, other: VersionVector) -> int:
        """How many ids of `other` are not here; cheap however large the ranges claim to be."""
        return sum(last - first + 1 for _, first, last in self._differences(other))

    def missing(self, other: VersionVector) -> Iterator[UpdateId]:
        """The ids of `other` that are not here, lazily: `other` may be a stranger's claim of 2**53 updates."""
        for author, first, last in self._differences(other):
            for seq in range(first, last + 1):
                yield author, seq

    def _differences(self, other: VersionVector) -> Iterator[tuple[bytes, int, int]]:
        for author in sorted(other._ranges):
            mine = self._ranges.get(author, [])
            for first, last in other._ranges[author]:
                at = max(bisect_right(mine, (first, schema.MAX_INT)) - 1, 0)
                for have_first, have_last in mine[at:]:
                    if have_first > last:
                        break
                    if first < have_first:
                        yield author, first, have_first - 1
                    first = max(first, have_last + 1)
                if first <= last:
                    yield author, first, last

    def copy(self) -> VersionVector:
        """An independent vector with the same ids."""
        clone = VersionVector()
        clone._ranges = {author: list(ranges) for author, ranges in self._ranges.items()}
        clone._held = self._held
        return clone

    def to_wire(self) -> list[Any]:
        """Plain CBOR values: [[author, first, last, first, last ...], ...], ascending."""
        return [[author, *(n for pair in self._ranges[author] for n in pair)] for author in sorted(self._ranges)]

    @classmethod
    def from_wire(cls, value: Any) -> VersionVector:
        """The vector in decoded CBOR.

        Raises:
            WireError: not ascending, overlapping or adjacent ranges, or more than the bounds allow.
        """
        vector = cls()
        budget = MAX_RANGES
        author_check, seq_check = schema.octets(KEY_BYTES), schema.integer(1)
        previous = b""
        for row in schema.sequence(schema.sequence(_anything, 1 + 2 * MAX_RANGES), MAX_AUTHORS)(value):
            if len(row) < 3 or len(row) % 2 == 0:
                raise WireError("a version vector's row is an author and pairs of numbers")
            author = author_check(row[0])
            numbers = [seq_check(number) for number in row[1:]]
            ranges = list(zip(numbers[::2], numbers[1::2], strict=True))
            budget -= len(ranges)
            ascending = all(first <= last for first, last in ranges)
            apart = all(before[1] + 1 < after[0] for before, after in pairwise(ranges))
            if author <= previous or not ascending or not apart or budget < 0:
                raise WireError("a version vector's authors and ranges ascend without touching")
            vector._ranges[author] = ranges
            vector._held += len(ranges)
            previous = author
        return vector


def _anything(value: Any) -> Any:
    return value
