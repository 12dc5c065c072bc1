"""The encoder: outer momentum, error feedback and chunked top-k of one node's pseudo-gradients; used by the learner.

After SparseLoCo (Sarfi et al. 2025, arXiv 2508.15706), with DiLoCo's Nesterov momentum (Douillard et al. 2023, arXiv
2311.08105) in front, and one sign and one scale per chunk as the quantiser. What is not sent is kept in whole replica
units, so that nothing is ever lost to rounding: sent + rest == before, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from learnae.codec.norm import chunk_exponents, root_up, squared_norm
from learnae.codec.part import HEADER, PART_LIMIT, encode_part
from learnae.codec.selection import Selection, send_largest
from learnae.errors import CodecError, ConfigError
from learnae.layout import CHUNK, Layout

SATURATION: Final = 2**30
"""Most units of one weight that wait to be sent."""

LARGEST: Final = 2.0**60
"""Bound on a pseudo-gradient: its momentum then stays a float32."""

SLAB: Final = 32 * CHUNK
"""Weights handled at a time: few enough that all passes over them find them in the processor's cache."""

_MARGIN: Final = 8192
"""Bytes left free when parts are planned: more than a chunk takes."""


@dataclass(frozen=True, slots=True)
class CodecSettings:
    """How updates are made; a local choice of each node, unknown to the receivers.

    ``density``: part of the weights in one update; 0.02 costs 1/170 to 1/185 of the float32 model, less density less
    traffic and slower learning. ``lr_outer``: step of the outer optimiser. ``mu``: its Nesterov momentum; 1.0 and 0.9
    learn a little faster if everybody is in step, the defaults stand delays better. ``beta``: decay per round of what
    has not been sent yet. ``least``: so many entries, at least, of what is left of a tensor after its whole chunks, if
    it has them; of small tensors, mostly biases and the last layer, a low density alone leaves hardly any: 64 costs a
    tenth more bytes at a density of 0.5 % and learns faster. Raises `ConfigError` for values out of range.
    """

    density: float = 0.02
    lr_outer: float = 0.8
    mu: float = 0.8
    beta: float = 0.95
    least: int = 1

    def __post_init__(self) -> None:
        shares = 0 < self.density <= 1 and 0 <= self.mu < 1 and 0 <= self.beta <= 1
        if not (shares and 0 < self.lr_outer <= 4 and 1 <= self.least <= CHUNK):
            raise ConfigError(
                f"{self} is out of range: density must be in (0, 1], lr_outer in (0, 4], mu in [0, 1), beta in [0, 1], "
                f"least from 1 to {CHUNK}",
                code="bad-setting",
            )


@dataclass(frozen=True, slots=True)
class EncoderStatistics:
    """Totals since the start of the process."""

    updates: int
    entries: int
    bytes: int


class Encoded(NamedTuple):
    """An update's ``parts``, each at most 256 KiB, and the ``norm`` of what they add.

    The norm is Euclidean, in weight units, and the smallest float64 that is not below the exact value.
    """

    parts: list[bytes]
    norm: float


class Slab(NamedTuple):
    """A run of equally wide chunks of one tensor: its weights, their width, the exponent of their unit."""

    part: slice
    width: int
    exponent: int


class Encoder:
    """One node's side of the codec for a replica with this layout and these unit exponents (at least -120).

    State: ``momentum`` float32[D] and ``pending`` int32[D] in replica units.
    """

    def __init__(self, layout: Layout, exponents: Sequence[int], settings: CodecSettings | None = None) -> None:
        self.layout = layout
        self.settings = settings or CodecSettings()
        self._updates = self._entries = self._bytes = 0
        self.reset(exponents)

    def reset(self, exponents: Sequence[int]) -> None:
        """Start afresh, with these units: nothing is pending."""
        self.exponents = tuple(exponents)
        self.momentum = np.zeros(self.layout.size, np.float32)
        self.pending = np.zeros(self.layout.size, np.int32)
        self._chunk_exponents = chunk_exponents(self.layout, self.exponents)

    def encode(self, delta: NDArray[np.float32], share: float) -> Encoded:
        """The update for a round that moved the weights by ``delta`` (float32[D]: after minus before).

        ``share`` is the node's part of the swarm's work, about 1/N. An update with nothing to say is legal: its parts
        have no entries. Raises `CodecError`, changing nothing, if ``delta`` or ``share`` is not finite or absurdly
        large.
        """
        self._check(delta, share)
        selections = []
        for slab in self._slabs():  # both halves while the slab is in the cache
            self._take_in(slab, delta, share)
            selections.append(self._send(slab))
        return self._pack(selections)

    def accumulate(self, delta: NDArray[np.float32], share: float) -> None:
        """First half of `encode`: take the round into momentum and what is pending."""
        self._check(delta, share)
        for slab in self._slabs():
            self._take_in(slab, delta, share)

    def emit(self) -> Encoded:
        """Second half of `encode`: send the largest of what is pending, and keep the rest."""
        return self._pack([self._send(slab) for slab in self._slabs()])

    def _check(self, delta: NDArray[np.float32], share: float) -> None:
        sound = delta.shape == self.momentum.shape
        for start in range(0, len(delta) if sound else 0, SLAB):
            part = delta[start : start + SLAB]
            sound = sound and bool(max(part.max(), -part.min()) < LARGEST)  # false for NaN too
        if not sound:
            raise CodecError(f"a pseudo-gradient must be {self.layout.size} finite numbers below {LARGEST:g}")
        if not 0 <= share <= 1:
            raise CodecError(f"the share of a round must be from 0 to 1, not {share}")

    def _slabs(self) -> Iterator[Slab]:
        """The model as runs of equally wide chunks, in order."""
        for offset, tensor, exponent in zip(self.layout.offsets, self.layout.tensors, self.exponents, strict=True):
            whole = offset + tensor.size // CHUNK * CHUNK
            for start in range(offset, whole, SLAB):
                yield Slab(slice(start, min(start + SLAB, whole)), CHUNK, exponent)
            if tail := tensor.size % CHUNK:
                yield Slab(slice(whole, whole + tail), tail, exponent)

    def _take_in(self, slab: Slab, delta: NDArray[np.float32], share: float) -> None:
        """In float32: a pending value is rounded in its 25th bit, far below what the decay takes off it."""
        settings = self.settings
        here, momentum, pending = delta[slab.part], self.momentum[slab.part], self.pending[slab.part]
        momentum *= np.float32(settings.mu)
        momentum += here
        step = momentum * np.float32(settings.mu)
        step += here
        with np.errstate(over="ignore"):  # What becomes infinite is clipped below.
            step *= np.float32(math.ldexp(share * settings.lr_outer, -slab.exponent))
        rest = pending.astype(np.float32)
        rest *= np.float32(settings.beta)
        step += rest
        np.rint(step, out=step)
        np.clip(step, -SATURATION, SATURATION, out=step)
        pending[...] = step

    def _send(self, slab: Slab) -> Selection:
        least = 1 if slab.width == CHUNK else min(self.settings.least, slab.width)
        count = max(least, round(self.settings.density * slab.width))
        chosen = send_largest(self.pending[slab.part], slab.width, count)
        chosen.index[:] += slab.part.start
        return chosen

    def _pack(self, selections: list[Selection]) -> Encoded:
        """Parts as long as fit; of each its norm."""
        scales = np.concatenate([chosen.scales for chosen in selections])
        counts = np.concatenate([chosen.counts for chosen in selections])
        index = np.concatenate([chosen.index for chosen in selections])
        negative = np.concatenate([chosen.negative for chosen in selections])
        ends = np.append(0, np.cumsum(counts))
        parts: list[bytes] = []
        square = Fraction(0)
        for first, last in self._runs(counts):
            chunks, entries = slice(first, last), slice(ends[first], ends[last])
            parts += self._parts(first, scales[chunks], index[entries], negative[entries])
            square += squared_norm(scales[chunks], counts[chunks], self._chunk_exponents[chunks])
        self._updates += 1
        self._entries += len(index)
        self._bytes += sum(map(len, parts))
        return Encoded(parts, root_up(square))

    def _runs(self, counts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Runs of chunks whose parts should come close to the limit, by what an entry usually costs."""
        entries = max(1, int(counts.sum()))
        bits = 2.7 + math.log2(max(1.0, self.layout.size / entries))
        ends = np.cumsum(4 + counts * (bits / 8))
        room = PART_LIMIT - HEADER.size - _MARGIN
        starts = np.flatnonzero(np.diff(ends // room, prepend=-1) > 0).tolist()
        yield from pairwise([*starts, len(counts)])

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
        """What a restart needs: ``momentum`` and ``pending`` themselves, to be saved or copied before they change."""
        return {"momentum": self.momentum, "pending": self.pending}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a `state` in the same units. Raises `CodecError` if it belongs to another layout."""
        for name, array in (("momentum", self.momentum), ("pending", self.pending)):
            if state[name].shape != array.shape or state[name].dtype != array.dtype:
                raise CodecError(f"the stored {name} belongs to another model: start without the stored state")
            array[:] = state[name]

    def statistics(self) -> EncoderStatistics:
        """Updates made, entries and bytes in them."""
        return EncoderStatistics(self._updates, self._entries, self._bytes)
