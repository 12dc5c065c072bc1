"""The encoder: outer momentum, error feedback and chunked top-k of one node's pseudo-gradients; used by the learner.

After SparseLoCo (Sarfi et al. 2025, arXiv 2508.15706), with DiLoCo's Nesterov momentum (Douillard et al. 2023, arXiv
2311.08105) in front, and one sign and one scale per chunk as the quantiser. What is not sent is kept in whole replica
units, so that nothing is ever lost to rounding: sent + rest == before, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from learnae.codec.part import PART_LIMIT, encode_part
from learnae.errors import CodecError, ConfigError
from learnae.layout import CHUNK, Layout

SATURATION: Final = 2**30
"""Most units of one weight that wait to be sent."""

LARGEST: Final = 2.0**60
"""Bound on a pseudo-gradient: its momentum then stays a float32."""

SLAB: Final = 256 * CHUNK
"""Weights handled at a time: bounds the memory for intermediate float64 values to some 30 MB."""


@dataclass(frozen=True, slots=True)
class CodecSettings:
    """How updates are made; a local choice of each node, unknown to the receivers.

    ``density``: part of the weights in one update; 0.02 costs 1/170 to 1/185 of the float32 model, less density less
    traffic and slower learning. ``lr_outer``: step of the outer optimiser. ``mu``: its Nesterov momentum; 1.0 and 0.9
    learn a little faster if everybody is in step, the defaults stand delays better. ``beta``: decay per round of what
    has not been sent yet. Raises `ConfigError` for values out of range.
    """

    density: float = 0.02
    lr_outer: float = 0.8
    mu: float = 0.8
    beta: float = 0.95

    def __post_init__(self) -> None:
        if not (0 < self.density <= 1 and 0 < self.lr_outer <= 4 and 0 <= self.mu < 1 and 0 <= self.beta <= 1):
            raise ConfigError(
                f"{self} is out of range: density must be in (0, 1], lr_outer in (0, 4], mu in [0, 1), beta in [0, 1]"
            )


@dataclass(frozen=True, slots=True)
class EncoderStatistics:
    """Totals since the start of the process."""

    updates: int
    entries: int
    bytes: int


class Encoder:
    """One node's side of the codec for a replica with this layout and these unit exponents.

    State: ``momentum`` float32[D] and ``pending`` int32[D] in replica units.
    """

    def __init__(self, layout: Layout, exponents: Sequence[int], settings: CodecSettings | None = None) -> None:
        self.layout = layout
        self.exponents = tuple(exponents)
        self.settings = settings or CodecSettings()
        self.momentum = np.zeros(layout.size, np.float32)
        self.pending = np.zeros(layout.size, np.int32)
        self._updates = self._entries = self._bytes = 0

    def encode(self, delta: NDArray[np.float32], share: float) -> list[bytes]:
        """The parts of the update for a round that moved the weights by ``delta`` (float32[D]: after minus before).

        ``share`` is the node's part of the swarm's work, about 1/N. Every part is at most 256 KiB. An update with
        nothing to say is legal: its parts have no entries. Raises `CodecError`, changing nothing, if ``delta`` or
        ``share`` is not finite or absurdly large.
        """
        self.accumulate(delta, share)
        return self.emit()

    def accumulate(self, delta: NDArray[np.float32], share: float) -> None:
        """First half of `encode`: take the round into momentum and what is pending."""
        if delta.shape != self.momentum.shape or not max(delta.max(), -delta.min()) < LARGEST:  # false for NaN too
            raise CodecError(f"a pseudo-gradient must be {self.layout.size} finite numbers below {LARGEST:g}")
        if not 0 <= share <= 1:
            raise CodecError(f"the share of a round must be from 0 to 1, not {share}")
        settings = self.settings
        for start, stop, _, exponent in self._slabs():
            part = slice(start, stop)
            momentum = self.momentum[part]
            momentum *= np.float32(settings.mu)
            momentum += delta[part]
            step = delta[part] + settings.mu * momentum.astype(np.float64)
            step *= share * settings.lr_outer * 2.0**-exponent
            step += settings.beta * self.pending[part]
            self.pending[part] = np.clip(np.rint(step), -SATURATION, SATURATION)

    def emit(self) -> list[bytes]:
        """Second half of `encode`: send the largest of what is pending, and keep the rest."""
        scales, indices, signs = [], [], []
        for start, stop, width, _ in self._slabs():
            rows = self.pending[start:stop].reshape(-1, width)
            scale, kept = _largest(rows, max(1, round(self.settings.density * width)))
            row, column = np.nonzero(kept)
            negative = rows[row, column] < 0
            rows[row, column] -= np.where(negative, -scale[row], scale[row])
            scales.append(scale.astype(np.uint32))
            indices.append(start + row * width + column)
            signs.append(negative)
        index = np.concatenate(indices)
        parts = list(self._parts(0, np.concatenate(scales), index, np.concatenate(signs)))
        self._updates += 1
        self._entries += len(index)
        self._bytes += sum(map(len, parts))
        return parts

    def _slabs(self) -> Iterator[tuple[int, int, int, int]]:
        """Start, stop, width of a chunk and unit exponent of runs of equally wide chunks, in order."""
        for offset, tensor, exponent in zip(self.layout.offsets, self.layout.tensors, self.exponents, strict=True):
            whole = offset + tensor.size // CHUNK * CHUNK
            for start in range(offset, whole, SLAB):
                yield start, min(start + SLAB, whole), CHUNK, exponent
            if tail := tensor.size % CHUNK:
                yield whole, whole + tail, tail, exponent

    def _parts(
        self, first: int, scales: NDArray[np.uint32], index: NDArray[np.int64], negative: NDArray[np.bool_]
    ) -> Iterator[bytes]:
        """Parts for these chunks, halved until each fits; one chunk always does."""
        part = encode_part(self.layout, first, scales, index, negative)
        if len(part) <= PART_LIMIT:
            yield part
            return
        half = len(scales) // 2
        cut = int(np.searchsorted(index, self.layout.boundaries[first + half]))
        yield from self._parts(first, scales[:half], index[:cut], negative[:cut])
        yield from self._parts(first + half, scales[half:], index[cut:], negative[cut:])

    def state(self) -> dict[str, NDArray[Any]]:
        """Copies of what a restart needs: ``momentum`` and ``pending``."""
        return {"momentum": self.momentum.copy(), "pending": self.pending.copy()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a `state`. Raises `CodecError` if it belongs to another layout."""
        for name, array in (("momentum", self.momentum), ("pending", self.pending)):
            if state[name].shape != array.shape or state[name].dtype != array.dtype:
                raise CodecError(f"the stored {name} belongs to another model: start without the stored state")
            array[:] = state[name]

    def statistics(self) -> EncoderStatistics:
        """Updates made, entries and bytes in them."""
        return EncoderStatistics(self._updates, self._entries, self._bytes)


def _largest(rows: NDArray[np.int32], count: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Of each row the ``count`` largest magnitudes that are not zero: their rounded mean (int32[rows]) and a mask."""
    magnitude = np.abs(rows)
    largest = np.argpartition(magnitude, -count, axis=1)[:, -count:]
    values = np.take_along_axis(magnitude, largest, axis=1)
    scale = np.rint(values.sum(axis=1) / np.maximum(1, np.count_nonzero(values, axis=1))).astype(np.int32)
    kept = np.zeros(rows.shape, np.bool_)
    np.put_along_axis(kept, largest, values > 0, axis=1)
    return scale, kept
