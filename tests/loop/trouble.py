"""A training script that a system test starts, and that goes wrong after its second round, in the way it is told."""

from __future__ import annotations

import math
import sys
import threading

import torch
from torch import nn

import learnae

torch.set_num_threads(1)
home, how = sys.argv[1:]
torch.manual_seed(7)
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
lost: list[torch.Tensor] = []


def go_wrong(swarm: learnae.Swarm) -> float | None:
    """The loss to tell of, if it is another one."""
    if how == "raise":
        raise ZeroDivisionError("the script's own error")
    if how == "hang":
        threading.Event().wait()
    if how == "leak":
        lost.append(torch.ones(4_000_000))
    if how == "nan" and not swarm.statistics().dropped:
        with torch.no_grad():
            next(model.parameters()).fill_(math.nan)
        return math.nan
    return None


with learnae.join("t", model, optimizer, slot_seconds=0.5, round_steps=10, home=home) as swarm:
    begun = swarm.rounds
    while True:
        labels = torch.randint(0, 4, (32,))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(torch.eye(4, 16)[labels] + 0.3 * torch.randn(32, 16)), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        told = go_wrong(swarm) if swarm.rounds >= begun + 2 else None
        if not swarm.step(samples=32, loss=loss if told is None else told):
            break
        found = swarm.statistics()
        print(found.rounds, found.dropped, flush=True)  # noqa: T201
