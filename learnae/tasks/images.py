"""What the built-in image tasks have in common: a data set in memory and a classifier."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from learnae.task import Shard, Task

Batch = tuple[torch.Tensor, torch.Tensor]


class Images(NamedTuple):
    """Images as rows of pixels, uint8 or float32 [n, pixels], and their classes, int64[n]."""

    pixels: NDArray[np.generic]
    labels: NDArray[np.int64]


class ImageTask(Task):
    """Classification of small images by a multilayer perceptron, which sees the pixels divided by ``white``."""

    batch: ClassVar[int] = 32
    white: ClassVar[float]

    @property
    def directory(self) -> Path | None:
        """Where the user says that the files are: ``--data``, else ``LEARNAE_DATA``."""
        return self.data or (Path(os.environ["LEARNAE_DATA"]) if os.environ.get("LEARNAE_DATA") else None)

    @cached_property
    def train(self) -> Images:
        """The training set; shards are parts of it."""
        return self.load(train=True)

    @cached_property
    def test(self) -> Images:
        """The held-out set."""
        return self.load(train=False)

    @abstractmethod
    def load(self, train: bool) -> Images:
        """Read the training or the held-out set."""

    def batches(self, shard: Shard, seed: int) -> Iterator[Batch]:
        """Epochs over the shard, each in a new random order; a shard smaller than a batch is one batch."""
        own = shard.select(self.train.labels)
        rng = np.random.default_rng((seed, shard.index))
        size = min(self.batch, len(own))
        while True:
            order = rng.permutation(own)
            for start in range(0, len(order) - size + 1, size):
                yield self._tensors(self.train, order[start : start + size])

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Cross-entropy."""
        images, labels = batch
        return functional.cross_entropy(model(images), labels)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """``accuracy`` (0 to 1) and ``loss`` on the held-out set."""
        right = loss = 0.0
        total = len(self.test.labels)
        for some in np.array_split(np.arange(total), -(-total // 2000)):
            images, labels = self._tensors(self.test, some)
            scores = model(images)
            right += (scores.argmax(1) == labels).sum().item()
            loss += functional.cross_entropy(scores, labels, reduction="sum").item()
        return {"accuracy": right / total, "loss": loss / total}

    def _tensors(self, images: Images, rows: NDArray[np.int64]) -> Batch:
        pixels = images.pixels[rows].astype(np.float32) / np.float32(self.white)
        return torch.from_numpy(pixels), torch.from_numpy(images.labels[rows])


def perceptron(*widths: int) -> nn.Sequential:
    """A multilayer perceptron with layers of these widths, the input's first, and ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
