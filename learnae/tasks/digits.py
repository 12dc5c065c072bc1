"""The task ``digits``: 1797 handwritten digits of 8 x 8 pixels that come with scikit-learn; for demos and tests."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import nn

from learnae.errors import DataError
from learnae.tasks.images import Images, ImageTask, perceptron


class Digits(ImageTask):
    """UCI optical digits (Alpaydin and Kaynak 1998): 1437 to train with, 360 held out. 17,226 weights."""

    name: ClassVar[str] = "digits"
    slot_seconds: ClassVar[float] = 1.0
    round_steps: ClassVar[int | None] = 40
    batch: ClassVar[int] = 16
    white: ClassVar[float] = 16.0

    def model(self) -> nn.Module:
        """A perceptron, 64-128-64-10."""
        return perceptron(64, 128, 64, 10)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, fused=True)

    def load(self, train: bool) -> Images:
        """One fifth, drawn once and for all, is held out."""
        try:
            from sklearn.datasets import load_digits  # takes a second, and is needed nowhere else
        except ImportError as error:
            raise DataError(
                "the digits are part of scikit-learn, which is missing: pip install scikit-learn",
                code="data-missing",
            ) from error
        digits = load_digits()
        order = np.random.default_rng(0).permutation(len(digits.target))
        rows = order[360:] if train else order[:360]
        return Images(digits.data[rows].astype(np.float32), digits.target[rows].astype(np.int64))
