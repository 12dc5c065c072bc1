"""A task that differs from the built-in digits in the model alone: for swarms whose members do not match."""

from __future__ import annotations

from torch import nn

from learnae.tasks.digits import Digits


class Narrow(Digits):
    """Digits with half as many hidden units in the first layer."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
