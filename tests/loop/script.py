"""A training script that the system test starts: it trains a small model on made-up data, and says how it goes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn

import learnae
from learnae.model import gather

torch.set_num_threads(1)
home, seed, until, port, *peers = sys.argv[1:]
torch.manual_seed(int(seed))
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
generator = torch.Generator().manual_seed(int(seed))


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201


with learnae.join(
    "t",
    model,
    optimizer,
    slot_seconds=0.5,
    round_steps=10,
    home=home,
    listen=(f"/ip4/127.0.0.1/tcp/{port}",),
    peer=peers,
    mdns=False,
    status_port=0,
) as swarm:
    say(joined=swarm.steps, rounds=swarm.rounds)
    loss = torch.zeros(())
    # The test says when it is enough: swarms are no faster than their PC.
    while not Path(until).exists():
        labels = torch.randint(0, 4, (32,), generator=generator)
        inputs = torch.eye(4, 16)[labels] + 0.3 * torch.randn(32, 16, generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if not swarm.step(samples=32, loss=loss):
            break
        if swarm.steps % 10 == 0:
            found = swarm.statistics()
            say(steps=found.steps, rounds=found.rounds, applied=found.applied, attached=found.attached)
say(
    left=swarm.steps,
    weights=gather(model).tobytes().hex(),
    loss=float(loss.detach()),
)
