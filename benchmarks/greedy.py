"""Tasks that take all they can get: processor time, memory, bandwidth; for `benchmarks.limits`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from learnae.tasks.digits import Digits
from learnae.tasks.images import Batch, perceptron


class Wide(Digits):
    """Digits with four million weights: a snapshot of 17 MB, and steps without end."""

    slot_seconds: ClassVar[float] = 2.0
    round_steps: ClassVar[int | None] = None
    batch: ClassVar[int] = 64

    def model(self) -> nn.Module:
        """A perceptron, 64-2048-2048-10."""
        return perceptron(64, 2048, 2048, 10)


class Hungry(Digits):
    """Digits whose every step keeps four megabytes for good."""

    round_steps: ClassVar[int | None] = None

    def __init__(self, data: Path | None = None) -> None:
        super().__init__(data)
        self.kept: list[torch.Tensor] = []

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Cross-entropy, and a leak."""
        self.kept.append(torch.ones(1 << 20))
        return super().loss(model, batch)


def spec(name: str) -> str:
    """As after `--task`."""
    return f"{Path(__file__).resolve()}:{name}"
