"""The replica: the swarm's weights as exact fixed-point integers; used by the learner and the demo's control.

Integer addition commutes and never rounds, so nodes that hold the same set of updates hold the same bits, whatever the
order in which the updates came.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from learnae import snapshot
from learnae.errors import LayoutError, StoreError
from learnae.layout import Layout

FRACTION_BITS: Final = 24
"""Bits below the largest genesis weight: as fine as float32 there; 7 bits above it are headroom (128 times)."""

MIN_EXPONENT: Final = -120
MAX_EXPONENT: Final = 96
"""Largest exponent of a unit: 2**31 units are then still a float32."""

LIMIT: Final = 2**31
"""Units at which a weight wraps around."""

_PIECE: Final = 2**20


@dataclass(frozen=True, slots=True)
class ReplicaStatistics:
    """What a replica has seen: ``headroom`` as in `Replica.headroom`, ``alarms`` as in `Replica.alarms`."""

    weights: int
    applied: int
    headroom: float
    alarms: tuple[str, ...]


def unit_exponents(layout: Layout, weights: NDArray[np.float32]) -> tuple[int, ...]:
    """The exponent ``e`` of each tensor's unit ``2**e`` for these genesis weights (float32[D]).

    ``e = ceil(log2(max(1, largest magnitude))) - 24``: the resolution of float32 at the largest weight, and room to
    grow to 128 times that. Raises `LayoutError` if a weight is not finite or too large.
    """
    exponents = []
    for offset, tensor in zip(layout.offsets, layout.tensors, strict=True):
        largest = float(np.abs(weights[offset : offset + tensor.size]).max(initial=1.0))
        if not math.isfinite(largest):
            raise LayoutError(
                f"tensor {tensor.name!r} holds NaN or infinite weights: check how the model is initialised",
                code="weights-not-finite",
            )
        mantissa, exponent = math.frexp(largest)
        exponent -= FRACTION_BITS + (mantissa == 0.5)
        if exponent > MAX_EXPONENT:
            raise LayoutError(
                f"tensor {tensor.name!r} holds a weight of {largest:g}: scale the model's weights down",
                code="weights-too-large",
            )
        exponents.append(exponent)
    return tuple(exponents)


class Replica:
    """Genesis plus a sum of updates, as int32[D] in the units of ``exponents`` (one per tensor of ``layout``).

    ``weights_int32`` is taken over, not copied. Raises `LayoutError` if sizes or exponents do not fit the layout.
    """

    def __init__(self, layout: Layout, exponents: Sequence[int], weights_int32: NDArray[np.int32]) -> None:
        if weights_int32.dtype != np.int32 or weights_int32.shape != (layout.size,):
            raise LayoutError(
                f"a replica of this model holds int32[{layout.size}], not {weights_int32.dtype}{weights_int32.shape}",
                code="defect",
            )
        if len(exponents) != len(layout.tensors) or not all(MIN_EXPONENT <= e <= MAX_EXPONENT for e in exponents):
            raise LayoutError(
                "a replica needs one unit exponent, from -120 to 96, for each tensor of its layout", code="defect"
            )
        self.layout = layout
        self.exponents = tuple(exponents)
        self.weights = weights_int32
        self._applied = 0

    @classmethod
    def from_weights(cls, layout: Layout, exponents: Sequence[int], weights: NDArray[np.float32]) -> Replica:
        """The replica nearest to these weights (float32[D]); whatever exceeds the range is held at its end."""
        units = np.empty(layout.size, np.int32)
        for exponent, part in zip(exponents, _slices(layout), strict=True):
            scaled = np.rint(np.ldexp(weights[part].astype(np.float64), -exponent))
            units[part] = np.clip(scaled, 1 - LIMIT, LIMIT - 1)
        return cls(layout, exponents, units)

    @classmethod
    def from_snapshot(cls, leaves: Iterator[bytes], layout: Layout) -> Replica:
        """The replica in a snapshot's file, which comes in verified `leaves`.

        Raises `StoreError` if it is the snapshot of another model, and whatever `leaves` raises.
        """
        exponents, found = snapshot.read_header(leaves, layout)
        weights = np.empty(layout.size, "<i4")
        room, filled = weights.view(np.uint8).data, 0
        while found:
            if filled + len(found) > len(room):
                raise StoreError("the snapshot has more weights than the model", code="snapshot-foreign")
            room[filled : filled + len(found)] = found
            filled += len(found)
            found = next(leaves, b"")
        if filled != len(room):
            raise StoreError("the snapshot has fewer weights than the model", code="snapshot-foreign")
        try:
            return cls(layout, exponents, weights.astype(np.int32, copy=False))
        except LayoutError as error:
            raise StoreError(f"the snapshot cannot be: {error}", code="snapshot-foreign") from error

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The snapshot file of this replica, for `learnae.snapshot.write`; equal replicas have equal bytes."""
        yield snapshot.header(self.layout, self.exponents)
        for start in range(0, self.layout.size, _PIECE):
            yield self.weights[start : start + _PIECE].astype("<i4", copy=False).data

    def copy(self) -> Replica:
        """An independent replica with the same weights."""
        return Replica(self.layout, self.exponents, self.weights.copy())

    def apply(self, index: NDArray[np.integer], delta: NDArray[np.int32]) -> None:
        """Add ``delta`` (int32[k], units) at ``index`` (integers[k], each at most once). Exact; wraps modulo 2**32.

        Wrapping, unlike saturation, commutes: even a hostile sum is the same on every node. Subtract with ``-delta``.
        """
        np.add.at(self.weights, index, delta)  # in one pass: half the time of fetching, adding and storing
        self._applied += 1

    def read(self, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """The weights as float32[D], into ``out`` if given: each the float32 nearest to its exact value."""
        if out is None:
            out = np.empty(self.layout.size, np.float32)
        for exponent, part in zip(self.exponents, _slices(self.layout), strict=True):
            np.multiply(self.weights[part].astype(np.float32), np.float32(2.0**exponent), out=out[part])
        return out

    def digest(self) -> bytes:
        """SHA-256 (32 bytes) of the weights as little-endian int32."""
        return hashlib.sha256(self.weights.astype("<i4", copy=False).data).digest()

    def headroom(self) -> float:
        """The part of the range, 0 to 1, that is still free in the fullest tensor; at 0 a weight is about to wrap."""
        return 1.0 - max(_fill(self.weights[part]) for part in _slices(self.layout))

    def alarms(self) -> list[str]:
        """Names of the tensors in which a weight has passed a quarter of the range (32 times its genesis maximum)."""
        parts = zip(self.layout.tensors, _slices(self.layout), strict=True)
        return [tensor.name for tensor, part in parts if alarming(self.weights[part])]

    def statistics(self) -> ReplicaStatistics:
        """Size, updates applied in this process, headroom and alarms."""
        return ReplicaStatistics(self.layout.size, self._applied, self.headroom(), tuple(self.alarms()))


def _slices(layout: Layout) -> list[slice]:
    return [slice(offset, offset + tensor.size) for offset, tensor in zip(layout.offsets, layout.tensors, strict=True)]


def _fill(units: NDArray[np.int32]) -> float:
    return max(int(units.max(initial=0)), -int(units.min(initial=0))) / LIMIT


def alarming(units: NDArray[np.int32]) -> bool:
    """Whether one of these weights, in units, has passed a quarter of the range."""
    return _fill(units) > 0.25
