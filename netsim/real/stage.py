"""What makes a task of learnae one of a run: paced steps, a seeded split; base of the classes in a run's file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from learnae.task import Shard
from learnae.tasks.images import Batch, ImageTask

if TYPE_CHECKING:
    import torch
    from torch import nn


class Staged(ImageTask):
    """An image task whose steps are due at a fixed rate, as on a PC of that speed, however fast this machine is.

    ``speed``: local steps per second. ``split``: seed of the split of the data, which daemons leave at 0.
    """

    speed: ClassVar[float]
    split: ClassVar[int]
    _due = 0.0

    def batches(self, shard: Shard, seed: int) -> Iterator[Batch]:
        """Batches of the shard in the run's split."""
        return super().batches(replace(shard, seed=self.split), seed)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """The task's, when it is due."""
        now, step = time.monotonic(), 1 / self.speed
        # A late wake-up is made up for; a pause, and the wait for the next slot, are not.
        self._due = (self._due if now - self._due < step else now) + step
        time.sleep(max(0.0, self._due - now))
        return super().loss(model, batch)
