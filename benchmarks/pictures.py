"""A task for a hundred nodes on a PC: Fashion-MNIST with one hidden layer and batches of 16; used by `frontier`."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from learnae.tasks.fashion import FashionMnist
from learnae.tasks.images import perceptron


class SmallFashion(FashionMnist):
    """The built-in task costs four times as much for each step."""

    name: ClassVar[str] = "small-fashion"
    batch: ClassVar[int] = 16

    def model(self) -> nn.Module:
        """203,530 weights."""
        return perceptron(784, 256, 10)
