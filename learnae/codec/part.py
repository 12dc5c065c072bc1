"""One part of an update on the wire: sparse integers to bytes and back; used by the encoder and by every receiver.

The format is specified in ``docs/spec/update.md``. Gaps between entries are Golomb-Rice coded (Rice 1971), the values
are one sign each times one integer scale per chunk.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from learnae.errors import CodecError
from learnae.layout import Layout
from learnae.rules import FULL

PART_LIMIT: Final = 256 * 1024
"""Most bytes of a part."""

VERSION: Final = 1
MAX_RICE: Final = 24
HEADER: Final = struct.Struct("<BBIII")  # version, Rice parameter, first chunk, chunks, entries


@dataclass(frozen=True, slots=True)
class Part:
    """A decoded part: a sparse vector of whole units over the chunks from ``first`` on.

    ``scales`` uint32[chunks] and ``counts`` int64[chunks]: magnitude and number of each chunk's entries; ``index``
    int64[k]: flat positions, strictly increasing; ``negative`` bool[k]: their signs.
    """

    first: int
    scales: NDArray[np.uint32]
    counts: NDArray[np.int64]
    index: NDArray[np.int64]
    negative: NDArray[np.bool_]

    def delta(self, ratio: int = FULL) -> NDArray[np.int32]:
        """What it adds at ``index``, int32[k] in units: each scale times ``ratio`` (0 to `FULL`), rounded down."""
        scales = ((self.scales.astype(np.uint64) * np.uint64(ratio)) >> np.uint64(16)).astype(np.int32)
        delta = np.repeat(scales, self.counts)
        return np.negative(delta, out=delta, where=self.negative)


def encode_part(
    layout: Layout, first: int, scales: NDArray[np.uint32], index: NDArray[np.int64], negative: NDArray[np.bool_]
) -> bytes:
    """The part for the chunks from ``first`` on, with one scale each (units; 0 where nothing is sent).

    ``index`` int64[k] are flat positions inside these chunks, strictly increasing, ``negative`` bool[k] their signs.
    The result may exceed `PART_LIMIT`; the caller then splits the chunks.
    """
    gaps = np.diff(index, prepend=layout.boundaries[first] - 1) - 1
    rice, quotients = _rice(gaps)
    ends = np.cumsum(quotients + 1)
    unary = np.ones(int(ends[-1]) if len(ends) else 0, np.uint8)
    unary[ends - 1] = 0
    remainders = np.empty((len(gaps), rice), np.uint8)
    for bit in range(rice):
        np.bitwise_and(gaps >> bit, 1, out=remainders[:, bit], casting="unsafe")
    return b"".join(
        (
            HEADER.pack(VERSION, rice, first, len(scales), len(gaps)),
            scales.astype("<u4").tobytes(),
            _pack(negative),
            _pack(remainders.ravel()),
            _pack(unary),
        )
    )


def decode_part(layout: Layout, data: bytes) -> Part:
    """The part in ``data``, for a replica of ``layout``. Memory stays within some 200 times the length of ``data``.

    Raises `CodecError` unless the bytes are exactly what the specification allows; on every node alike.
    """
    if not HEADER.size <= len(data) <= PART_LIMIT:
        raise CodecError(f"a part has {HEADER.size} to {PART_LIMIT} bytes, this one {len(data)}")
    version, rice, first, chunks, entries = HEADER.unpack_from(data)
    boundaries = np.frombuffer(layout.boundaries, np.int64)
    if version != VERSION:
        raise CodecError(f"a part in format {version}; this program knows format {VERSION}")
    if rice > MAX_RICE or chunks == 0 or first + chunks >= len(boundaries):
        raise CodecError("the Rice parameter or the chunks of a part are out of range")
    sizes = (4 * chunks, -(-entries // 8), -(-entries * rice // 8))
    ends = np.cumsum((HEADER.size, *sizes))
    if ends[-1] > len(data):
        raise CodecError("a part is shorter than its header says")
    scales = np.frombuffer(data, "<u4", chunks, HEADER.size)
    if (scales >= 2**31).any():
        raise CodecError("a scale of a part is out of range")

    negative = _unpack(data[ends[1] : ends[2]], entries).view(np.bool_)
    remainders = _unpack(data[ends[2] : ends[3]], entries * rice).reshape(entries, rice)
    # The sum of all gaps up to an entry, from the sums of quotients and remainders; each stays below 2**46.
    index = _unary_sums(data[ends[3] :], entries)
    index <<= rice
    index += np.cumsum(_numbers(remainders))
    bounds = boundaries[first : first + chunks + 1]
    index += np.arange(bounds[0], bounds[0] + entries)
    if entries and index[-1] >= bounds[-1]:
        raise CodecError("an entry of a part lies outside its chunks")
    counts = np.diff(np.searchsorted(index, bounds))
    if ((counts > 0) != (scales > 0)).any():
        raise CodecError("a chunk of a part has a scale and no entries, or entries and no scale")
    return Part(first, scales, counts, index, negative)


def _rice(gaps: NDArray[np.int64]) -> tuple[int, NDArray[np.int64]]:
    """The parameter that makes a part shortest, and the quotients; the length is convex in it, so a walk finds it."""
    mean = float(gaps.mean()) if len(gaps) else 0.0
    rice = min(MAX_RICE, max(0, math.floor(math.log2(0.69 * mean + 1))))
    best, quotients = math.inf, gaps
    for step in (-1, 1):
        candidate = rice if math.isinf(best) else rice + step
        while 0 <= candidate <= MAX_RICE:
            shifted = gaps >> candidate
            length = candidate * len(gaps) + int(shifted.sum())
            if length >= best:
                break
            best, rice, quotients = length, candidate, shifted
            candidate += step
    return rice, quotients


def _pack(bits: NDArray[np.generic]) -> bytes:
    return np.packbits(bits.view(np.uint8), bitorder="little").tobytes()


def _unpack(field: bytes, count: int) -> NDArray[np.uint8]:
    """The ``count`` bits of a field that is just long enough for them; the padding must be zero."""
    bits = np.unpackbits(np.frombuffer(field, np.uint8), bitorder="little")
    if bits[count:].any():
        raise CodecError("a field of a part is padded with ones")
    return bits[:count]


def _numbers(bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The numbers whose bits, the lowest first, are the rows of ``bits``."""
    numbers = np.zeros(len(bits), np.int64)
    for bit in range(bits.shape[1]):
        numbers += bits[:, bit].astype(np.int64) << bit
    return numbers


def _unary_sums(field: bytes, count: int) -> NDArray[np.int64]:
    """Running sums of the ``count`` numbers of a unary field, each as many ones and a zero, which must fill it."""
    bits = np.unpackbits(np.frombuffer(field, np.uint8), bitorder="little")
    zeros = np.flatnonzero(bits == 0)[:count]
    used = int(zeros[-1]) + 1 if count and len(zeros) == count else 0
    if len(zeros) < count or -(-used // 8) != len(field) or bits[used:].any():
        raise CodecError("the gaps of a part do not fill its last field exactly")
    return zeros - np.arange(count)
