"""A plain training loop: a small network learns to tell four kinds of made-up points apart."""

import torch
from torch import nn

import learnae

centres = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))


def batches(count: int, size: int = 32):
    for _ in range(count):
        labels = torch.randint(0, 4, (size,))
        yield centres[labels] + 2 * torch.randn(size, 16), labels


def train_step(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    loss = nn.functional.cross_entropy(model(inputs), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
with learnae.join("my-swarm", model, optimizer, slot_seconds=1.0) as swarm:
    for inputs, labels in batches(20_000):
        loss = train_step(inputs, labels)
        swarm.step(samples=len(labels), loss=loss)

inputs, labels = next(batches(1, 10_000))
print(f"accuracy: {(model(inputs).argmax(1) == labels).float().mean():.3f}")
