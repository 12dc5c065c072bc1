"""Which entries of a vector an update carries: the largest of each chunk; used by the encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Selection:
    """The entries kept of some chunks.

    ``scales`` uint32[chunks]: the rounded mean magnitude of those kept, 0 where there are none; ``counts``
    int64[chunks]; ``index`` int64[k]: their positions, increasing; ``negative`` bool[k].
    """

    scales: NDArray[np.uint32]
    counts: NDArray[np.int64]
    index: NDArray[np.int64]
    negative: NDArray[np.bool_]


def send_largest(weights: NDArray[np.int32], width: int, count: int) -> Selection:
    """Of each ``width`` weights the ``count`` largest in magnitude that are not 0, and subtract what is sent of them.

    ``weights`` int32[n], n a multiple of ``width``, magnitudes below 2**31; changed in place. Of equals at the border
    the first are kept.
    """
    magnitude = np.abs(weights).reshape(-1, width)
    largest = np.partition(magnitude, width - count, axis=1)[:, width - count :]
    scales = np.rint(largest.sum(axis=1) / np.maximum(1, np.count_nonzero(largest, axis=1))).astype(np.int32)
    threshold = np.maximum(largest[:, 0], 1)  # The partition has put the smallest of them first.
    index = np.flatnonzero(magnitude >= threshold[:, None])
    edges = np.arange(0, magnitude.size + 1, width)
    counts = np.diff(np.searchsorted(index, edges))
    if counts.max() > count:
        index = _without_surplus(magnitude.ravel(), index, counts, threshold, count)
        counts = np.diff(np.searchsorted(index, edges))
    values = weights[index]
    negative = values < 0
    sent = np.repeat(scales, counts)
    np.negative(sent, out=sent, where=negative)
    weights[index] = values - sent
    return Selection(scales.astype(np.uint32), counts, index, negative)


def _without_surplus(
    magnitude: NDArray[np.int32],
    index: NDArray[np.int64],
    counts: NDArray[np.int64],
    threshold: NDArray[np.int32],
    count: int,
) -> NDArray[np.int64]:
    """``index`` without the last of those at their chunk's threshold, where a chunk has more than ``count``."""
    tied = magnitude[index] == np.repeat(threshold, counts)
    rank = np.append(0, np.cumsum(tied))  # how many tied ones there are before each entry, and in all
    ends = np.cumsum(counts)
    allowed = rank[ends] - np.maximum(counts - count, 0)
    kept: NDArray[np.int64] = index[~tied | (rank[:-1] < np.repeat(allowed, counts))]
    return kept
