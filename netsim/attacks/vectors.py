"""What attackers add to the weights: payloads turned round, vectors of their own; used by attacks and benchmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from learnae.codec import CodecSettings, Encoder, Payload, encode_part, root_up, squared_norm
from learnae.codec.norm import chunk_exponents
from learnae.layout import Layout
from learnae.replica import Replica

PLAIN = CodecSettings(lr_outer=1.0, mu=0.0, beta=0.0)
"""A codec that sends the largest entries of one vector and remembers nothing."""

LARGEST_SCALE = 2**31 - 1

Vector = NDArray[np.float32]
Encoded = tuple[list[bytes], float]
"""The parts of a payload, and the norm of what they add."""


def opposite(layout: Layout, payload: Payload, times: float = 1.0) -> list[bytes]:
    """The payload with all signs reversed, and so many times as large, as far as the format goes."""
    return [encode_part(layout, p.first, _times(p.scales, times), p.index, ~p.negative) for p in payload.parts]


def larger(layout: Layout, payload: Payload, times: float) -> list[bytes]:
    """The payload so many times as large, as far as the format goes."""
    return [encode_part(layout, p.first, _times(p.scales, times), p.index, p.negative) for p in payload.parts]


def norm(replica: Replica, payload: Payload) -> float:
    """The exact norm that a payload must claim at least, for a replica with these units."""
    exponents = chunk_exponents(replica.layout, replica.exponents)
    parts = payload.parts
    return root_up(
        sum((squared_norm(p.scales, p.counts, exponents[p.first : p.first + len(p.scales)]) for p in parts), start=0)  # type: ignore[arg-type]
    )


def encode(replica: Replica, vector: Vector, length: float | None = None) -> Encoded:
    """The largest entries of a vector, as updates carry them.

    Args:
        replica: in whose units.
        vector: what to add, float32[D].
        length: the norm that what is sent shall have, and never exceed; None: what comes of it.
    """
    encoder = Encoder(replica.layout, replica.exponents, PLAIN)
    parts, found = encoder.encode(vector, 1.0)
    for _ in range(3):
        if length is None or not found or length * 0.99 <= found <= length:
            break
        # Scales are whole units, so that the length is met within some rounding only.
        vector = np.asarray(vector * (0.995 * length / found), np.float32)
        encoder.reset(replica.exponents)
        parts, found = encoder.encode(vector, 1.0)
    return list(parts), found


def dense(replica: Replica, payload: Payload) -> Vector:
    """What a payload adds, float32[D] in weight units."""
    vector = np.zeros(replica.layout.size, np.float32)
    exponents = chunk_exponents(replica.layout, replica.exponents)
    for part in payload.parts:
        units = np.ldexp(np.float32(1), exponents[part.first : part.first + len(part.counts)])
        vector[part.index] = part.delta() * np.repeat(units, part.counts)
    return vector


def noise(size: int, length: float, rng: np.random.Generator) -> Vector:
    """White noise whose largest entries, a fiftieth of all, have this length."""
    vector = rng.standard_normal(size, np.float32)
    largest = np.sort(np.abs(vector))[-max(1, size // 50) :]
    return np.asarray(vector * (length / np.linalg.norm(largest)), np.float32)


def away(replica: Replica) -> Vector:
    """From the weights that the swarm has all the way to their opposite."""
    return np.asarray(-2 * replica.read(), np.float32)


def little(updates: Sequence[Vector], part: float) -> Vector:
    """A little is enough (Baruch, Baruch and Goldberg 2019, arXiv 1902.06156): the mean of honest updates, less a few
    of their standard deviations in every weight, so few that it hides among them.

    Args:
        updates: of honest nodes, at least one.
        part: of all nodes that attack; the deviations are as many as the paper's formula allows.
    """
    stacked = np.stack(updates)
    nodes = round(len(updates) / (1 - part))
    attackers = max(1, nodes - len(updates))
    supporters = nodes // 2 + 1 - attackers
    wanted = min(max((len(updates) - supporters) / len(updates), 0.5), 0.99)
    deviations = NormalDist().inv_cdf(wanted)
    return np.asarray(stacked.mean(axis=0) - deviations * stacked.std(axis=0), np.float32)


def inner_product(updates: Sequence[Vector], times: float) -> Vector:
    """Inner-product manipulation (Xie, Koyejo and Gupta 2020, arXiv 1903.03936): minus a multiple of the mean of
    honest updates, so that the sum of all no longer points downhill."""
    return np.asarray(-times * np.mean(updates, axis=0), np.float32)


def _times(scales: NDArray[np.uint32], times: float) -> NDArray[np.uint32]:
    if not (times > 0 and math.isfinite(times)):
        raise ValueError(f"a payload cannot be made {times} times as large")
    larger = np.rint(scales.astype(np.float64) * times)
    kept: NDArray[np.uint32] = np.where(scales > 0, np.clip(larger, 1, LARGEST_SCALE), 0).astype(np.uint32)
    return kept
