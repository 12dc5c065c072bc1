"""The task ``digits``: 1797 handwritten digits of 8 x 8 pixels that come with scikit-learn; for demos and tests."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
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
        table = np.loadtxt(_where(), delimiter=",", dtype=np.float32)
        images, labels = table[:, :-1], table[:, -1].astype(np.int64)
        order = np.random.default_rng(0).permutation(len(labels))
        rows = order[360:] if train else order[:360]
        return Images(images[rows], labels[rows])


def _where() -> Path:
    """The table inside scikit-learn, found without importing it: that would take two seconds and 60 MB."""
    found = find_spec("sklearn")
    table = Path(found.origin if found and found.origin else "sklearn").parent / "datasets" / "data" / "digits.csv.gz"
    if not table.is_file():
        raise DataError(
            "the digits are part of scikit-learn, which is missing: pip install scikit-learn",
            code="data-missing",
        )
    return table
