"""A task of one's own: four spirals that are wound into each other, told apart by where a point lies.

learnae task check spirals.py:Spirals
learnaed run --topic spirals --task spirals.py:Spirals --shard 1/2 --skew 0.1      on one PC
learnaed run --topic spirals --task spirals.py:Spirals --shard 2/2 --skew 0.1      on another one
"""

from collections.abc import Iterator

import torch
from torch import nn

from learnae.task import Shard, Task

Batch = tuple[torch.Tensor, torch.Tensor]
ARMS = 4


def points(count: int, seed: int) -> Batch:
    """Some noisy points of all spirals, and which one each belongs to."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(ARMS, (count,), generator=random)
    radius = 0.2 + 0.8 * torch.rand(count, generator=random)
    angle = 2 * torch.pi * labels / ARMS + 3 * radius + 0.1 * torch.randn(count, generator=random)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1), labels


class Spirals(Task):
    """5,000 points to learn from, of which each node has its own; with a skew, mostly those of some spirals."""

    name = "spirals"
    slot_seconds = 1.0
    round_steps = 40

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, ARMS))

    def batches(self, shard: Shard, seed: int) -> Iterator[Batch]:
        places, labels = points(5000, seed=1)
        mine = torch.from_numpy(shard.select(labels.numpy()))
        random = torch.Generator().manual_seed(seed)
        while True:
            rows = mine[torch.randint(len(mine), (32,), generator=random)]
            yield places[rows], labels[rows]

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        places, labels = batch
        return nn.functional.cross_entropy(model(places), labels)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        places, labels = points(1000, seed=2)
        scores = model(places)
        return {
            "accuracy": (scores.argmax(1) == labels).float().mean().item(),
            "loss": nn.functional.cross_entropy(scores, labels).item(),
        }

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=2e-3)
