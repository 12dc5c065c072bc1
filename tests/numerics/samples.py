"""Hypothesis strategies and small fixtures for the numerics tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from learnae.codec import encode_part
from learnae.layout import CHUNK, Layout, TensorSpec
from learnae.task import Shard, Task

sizes = st.one_of(st.integers(1, 40), st.sampled_from([CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 7]))


@st.composite
def layouts(draw: st.DrawFn, most: int = 4) -> Layout:
    """Layouts of a few tensors, around the chunk length too."""
    shapes = draw(st.lists(sizes, min_size=1, max_size=most))
    return Layout(tuple(TensorSpec(f"layer{i}.weight", (size,), "float32") for i, size in enumerate(shapes)))


def numbers(seed: int, size: int, scale: float = 1e-3) -> NDArray[np.float32]:
    """Heavy-tailed float32[size], as pseudo-gradients are."""
    rng = np.random.default_rng(seed)
    return (scale * rng.standard_t(3, size)).astype(np.float32)


Sparse = tuple[NDArray[np.int64], NDArray[np.int32]]
"""Positions and what is added there, in units."""


@st.composite
def updates(draw: st.DrawFn, layout: Layout) -> tuple[bytes, Sparse]:
    """Any part that the format can express for ``layout``, and what it must decode to."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    total = len(layout.boundaries) - 1
    first = draw(st.integers(0, total - 1))
    stop = draw(st.integers(first + 1, total))
    density = draw(st.sampled_from([0.0, 0.001, 0.02, 0.5, 1.0]))
    start, end = layout.boundaries[first], layout.boundaries[stop]
    index = np.flatnonzero(rng.random(end - start) < density) + start
    chunk = np.searchsorted(layout.boundaries, index, side="right") - 1
    scales = np.zeros(stop - first, np.uint32)
    scales[np.unique(chunk) - first] = rng.integers(1, 2 ** draw(st.integers(1, 31)), len(np.unique(chunk)))
    negative = rng.random(len(index)) < 0.5
    magnitude = scales[chunk - first].astype(np.int32)
    part = encode_part(layout, first, scales, index, negative)
    return part, (index, np.where(negative, -magnitude, magnitude))


class Blobs(Task):
    """Ten noisy prototypes of 20 numbers to tell apart: learned within a second."""

    name: ClassVar[str] = "blobs"
    rate: ClassVar[float] = 0.1

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        rng = np.random.default_rng(7)
        centres = rng.normal(size=(10, 20))
        labels = rng.integers(0, 10, 1200)
        points = centres[labels] + rng.normal(scale=0.9, size=(1200, 20))
        self.points = torch.tensor(points, dtype=torch.float32)
        self.labels = torch.tensor(labels)

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 10))

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=self.rate, momentum=0.9)

    def batches(self, shard: Shard, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        own = shard.select(self.labels[:1000].numpy())
        rng = np.random.default_rng((seed, shard.index))
        while True:
            rows = torch.from_numpy(rng.choice(own, 16))
            yield self.points[rows], self.labels[rows]

    def loss(self, model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return functional.cross_entropy(model(batch[0]), batch[1])

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        right = model(self.points[1000:]).argmax(1) == self.labels[1000:]
        return {"accuracy": float(right.float().mean())}
