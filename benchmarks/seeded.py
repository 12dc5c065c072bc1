"""The built-in tasks with other seeds: initial weights and the split of the data; for figures over several seeds.

A daemon splits the data and draws the initial weights as the task says, so a benchmark's seed has to be in the task:
`spec("digits", 2)` names it for `learnaed run --task` and for `benchmarks.baselines` alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from learnae.rules import Rules
from learnae.task import Shard
from learnae.tasks.digits import Digits
from learnae.tasks.fashion import FashionMnist
from learnae.tasks.images import Batch

SEEDS = (0, 1, 2)


class Digits0(Digits):
    """Digits as they are, and the seed in the split."""

    seed: ClassVar[int] = 0

    def batches(self, shard: Shard, seed: int) -> Iterator[Batch]:
        """Batches of the shard in the split that belongs to the task's seed."""
        return super().batches(replace(shard, seed=self.seed), seed)


class Digits1(Digits0):
    """Seed 1."""

    seed: ClassVar[int] = 1


class Digits2(Digits0):
    """Seed 2."""

    seed: ClassVar[int] = 2


class FashionMnist0(FashionMnist):
    """Fashion-MNIST as it is, and the seed in the split."""

    seed: ClassVar[int] = 0

    def batches(self, shard: Shard, seed: int) -> Iterator[Batch]:
        """Batches of the shard in the split that belongs to the task's seed."""
        return super().batches(replace(shard, seed=self.seed), seed)


class FashionMnist1(FashionMnist0):
    """Seed 1."""

    seed: ClassVar[int] = 1


class FashionMnist2(FashionMnist0):
    """Seed 2."""

    seed: ClassVar[int] = 2


class Slow(Digits0):
    """Digits in slots of 5 s with a cut every two, so that what takes some seconds can be counted in slots."""

    slot_seconds: ClassVar[float] = 5.0
    rules: ClassVar[Rules] = Rules(cut_slots=2, window=3, staleness=8)


class Hasty(Digits0):
    """Digits in slots of half a second, without a pause between rounds: as much to merge as there can be."""

    slot_seconds: ClassVar[float] = 0.5
    round_steps: ClassVar[int] = 20


class Slow0(Slow):
    """Seed 0."""

    seed: ClassVar[int] = 0


class Slow1(Slow):
    """Seed 1."""

    seed: ClassVar[int] = 1


class Slow2(Slow):
    """Seed 2."""

    seed: ClassVar[int] = 2


def spec(task: str, seed: int) -> str:
    """The `--task` of a built-in task, or of slow digits, with one of `SEEDS`."""
    family = {"digits": "Digits", "fashion-mnist": "FashionMnist", "slow": "Slow"}[task]
    return f"{Path(__file__).resolve()}:{family}{seed}"
