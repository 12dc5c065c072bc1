"""One part of an update on the wire: sparse integers to bytes and back; used by the encoder and by every receiver.

The format is specified in ``docs/spec/update.md``. Gaps between entries are Golomb-Rice coded (Rice 1971), the values
are one sign each times one integer scale per chunk.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from learnae.errors import CodecError
from learnae.layout import Layout

PART_LIMIT: Final = 256 * 1024
"""Most bytes of a part."""

VERSION: Final = 1
MAX_RICE: Final = 24
HEADER: Final = struct.Struct("<BBIII")  # version, Rice parameter, first chunk, chunks, entries


Sparse = tuple[NDArray[np.int64], NDArray[np.int32]]
"""A sparse vector of whole units: index int64[k], strictly increasing, and delta int32[k]."""


def encode_part(
    layout: Layout, first: int, scales: NDArray[np.uint32], index: NDArray[np.int64], negative: NDArray[np.bool_]
) -> bytes:
    """The part for the chunks from ``first`` on, with one scale each (units; 0 where nothing is sent).

    ``index`` int64[k] are flat positions inside these chunks, strictly increasing, ``negative`` bool[k] their signs.
    The result may exceed `PART_LIMIT`; the caller then splits the chunks.
    """
    start = layout.boundaries[first]
    gaps = np.diff(index, prepend=start - 1) - 1
    rice = min(range(MAX_RICE + 1), key=lambda b: b * len(gaps) + int((gaps >> b).sum()))
    quotients = gaps >> rice
    unary = np.ones(int(quotients.sum()) + len(gaps), np.uint8)
    unary[np.cumsum(quotients + 1) - 1] = 0
    remainders = (gaps[:, None] >> np.arange(rice)) & 1
    return b"".join(
        (
            HEADER.pack(VERSION, rice, first, len(scales), len(gaps)),
            scales.astype("<u4").tobytes(),
            _pack(negative),
            _pack(remainders.ravel()),
            _pack(unary),
        )
    )


def decode_part(layout: Layout, part: bytes) -> Sparse:
    """What a part adds to a replica of ``layout``. Memory stays within some 200 times the part's length.

    Raises `CodecError` unless the part is exactly what the specification allows; on every node alike.
    """
    if not HEADER.size <= len(part) <= PART_LIMIT:
        raise CodecError(f"a part has {HEADER.size} to {PART_LIMIT} bytes, this one {len(part)}")
    version, rice, first, chunks, entries = HEADER.unpack_from(part)
    boundaries = np.frombuffer(layout.boundaries, np.int64)
    if version != VERSION:
        raise CodecError(f"a part in format {version}; this program knows format {VERSION}")
    if rice > MAX_RICE or chunks == 0 or first + chunks >= len(boundaries):
        raise CodecError("the Rice parameter or the chunks of a part are out of range")
    sizes = (4 * chunks, -(-entries // 8), -(-entries * rice // 8))
    ends = np.cumsum((HEADER.size, *sizes))
    if ends[-1] > len(part):
        raise CodecError("a part is shorter than its header says")
    scales = np.frombuffer(part, "<u4", chunks, HEADER.size)
    if (scales >= 2**31).any():
        raise CodecError("a scale of a part is out of range")

    negative = _unpack(part[ends[1] : ends[2]], entries).astype(bool)
    remainders = _unpack(part[ends[2] : ends[3]], entries * rice).reshape(entries, rice) @ (1 << np.arange(rice))
    quotients = _unary(part[ends[3] :], entries)
    bounds = boundaries[first : first + chunks + 1]
    gaps = (quotients << rice) + remainders
    # Before the sum below, so that it cannot overflow: entries are few, and gaps no longer than the model.
    if entries and gaps.max() >= bounds[-1] - bounds[0]:
        raise CodecError("an entry of a part lies outside its chunks")
    index = bounds[0] - 1 + np.cumsum(gaps + 1)
    if entries and index[-1] >= bounds[-1]:
        raise CodecError("an entry of a part lies outside its chunks")
    chunk = np.searchsorted(bounds, index, side="right") - 1
    magnitude = scales[chunk].astype(np.int32)
    if (magnitude == 0).any() or np.count_nonzero(scales) != len(np.unique(chunk)):
        raise CodecError("a chunk of a part has a scale and no entries, or entries and no scale")
    return index, np.where(negative, -magnitude, magnitude)


def _pack(bits: NDArray[np.generic]) -> bytes:
    return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def _unpack(field: bytes, count: int) -> NDArray[np.uint8]:
    """The ``count`` bits of a field that is just long enough for them; the padding must be zero."""
    bits = np.unpackbits(np.frombuffer(field, np.uint8), bitorder="little")
    if bits[count:].any():
        raise CodecError("a field of a part is padded with ones")
    return bits[:count]


def _unary(field: bytes, count: int) -> NDArray[np.int64]:
    """The ``count`` numbers of a unary field, each as many ones and a zero, which must fill it to the last byte."""
    bits = np.unpackbits(np.frombuffer(field, np.uint8), bitorder="little")
    zeros = np.flatnonzero(bits == 0)[:count]
    used = int(zeros[-1]) + 1 if count and len(zeros) == count else 0
    if len(zeros) < count or -(-used // 8) != len(field) or bits[used:].any():
        raise CodecError("the gaps of a part do not fill its last field exactly")
    return np.diff(zeros, prepend=-1) - 1
