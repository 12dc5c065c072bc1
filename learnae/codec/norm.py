"""The exact norm of what an update adds, and the check of a claimed one; used by the encoder and by receivers.

All in whole numbers: two nodes must never disagree on whether an update keeps to its claim.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from learnae.layout import Layout

_BITS = sys.float_info.mant_dig


def chunk_exponents(layout: Layout, exponents: Sequence[int]) -> NDArray[np.int32]:
    """For each chunk of the layout the exponent of its tensor's unit, int32[chunks]."""
    starts = np.frombuffer(layout.boundaries, np.int64)[:-1]
    tensor = np.searchsorted(layout.offsets, starts, side="right") - 1
    return np.array(exponents, np.int32)[tensor]


def squared_norm(scales: NDArray[np.uint32], counts: NDArray[np.int64], exponents: NDArray[np.int32]) -> Fraction:
    """The sum over some chunks of ``counts * scales**2 * 4**exponents``: exact, in squared weight units.

    ``counts`` are at most 4096 and the chunks at most 2**18, so that no partial sum passes 63 bits.
    """
    squares = scales.astype(np.uint64) ** 2
    high = (squares >> np.uint64(32)).astype(np.int64) * counts
    low = (squares & np.uint64(2**32 - 1)).astype(np.int64) * counts
    total = Fraction(0)
    for exponent in np.unique(exponents).tolist():
        here = exponents == exponent
        total += ((int(high[here].sum()) << 32) + int(low[here].sum())) * Fraction(4) ** exponent
    return total


def root_up(square: Fraction) -> float:
    """The smallest float64 that is not below the square root of ``square`` (at least 0, and in range)."""
    if not square:
        return 0.0
    # With the square scaled by 4**shift to twice a float's bits, its integer root is a float, and not above the root.
    shift = _BITS - 1 - (square.numerator.bit_length() - square.denominator.bit_length()) // 2
    root = math.ldexp(math.isqrt(int(square * Fraction(4) ** shift)), -shift)
    while Fraction(root) ** 2 < square:
        root = math.nextafter(root, math.inf)
    return root
