"""Tasks that differ from the built-in digits: in the model, for swarms whose members do not match; in rhythm."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from learnae.rules import Rules
from learnae.tasks.digits import Digits
from learnae.tasks.images import Images, ImageTask, perceptron


class Narrow(Digits):
    """Digits with half as many hidden units in the first layer."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


class Brisk(Digits):
    """Digits with short slots, two of which make an interval: cuts settle, and the log is pruned, within a minute."""

    name = "brisk"
    slot_seconds = 1.0
    rules = Rules(cut_slots=2)


class Hasty(ImageTask):
    """Two rounds a second on made-up data, which need no library: its trainer is up early. Its updates are too large
    to ride in their announcements."""

    name = "hasty"
    slot_seconds = 0.5
    round_steps = 4
    batch = 16
    white = 1.0

    def model(self) -> nn.Module:
        return perceptron(16, 512, 512, 4)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.05)

    def load(self, train: bool) -> Images:
        rng = np.random.default_rng(0 if train else 1)
        labels = np.arange(600) % 4
        pixels = rng.normal(0.0, 0.5, (600, 16)) + np.eye(4, 16)[labels]
        return Images(pixels.astype(np.float32), labels.astype(np.int64))


class Bulky(Hasty):
    """A model of 25 million weights, whose snapshot has 100 MB. Its cuts are taken every few seconds."""

    name = "bulky"
    slot_seconds = 5.0
    round_steps = 2
    rules = Rules(cut_slots=1)

    def model(self) -> nn.Module:
        return perceptron(16, 4990, 4990, 4)


class Sturdy(Hasty):
    """A model of 2.6 million weights, whose snapshot has 10 MB in 41 leaves. Its cuts are taken every few seconds."""

    name = "sturdy"
    slot_seconds = 2.0
    round_steps = 2
    rules = Rules(cut_slots=1)

    def model(self) -> nn.Module:
        return perceptron(16, 1590, 1590, 4)
