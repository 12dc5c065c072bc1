"""Tasks that differ from the built-in digits: in the model, for swarms whose members do not match; in rhythm."""

from __future__ import annotations

from torch import nn

from learnae.rules import Rules
from learnae.tasks.digits import Digits


class Narrow(Digits):
    """Digits with half as many hidden units in the first layer."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


class Brisk(Digits):
    """Digits with short slots, two of which make an interval: cuts settle, and the log is pruned, within a minute."""

    name = "brisk"
    slot_seconds = 1.0
    rules = Rules(cut_slots=2)
