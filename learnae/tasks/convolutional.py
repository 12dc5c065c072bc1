"""A small convolutional network for coloured pictures; used by the tasks `cifar` and `folders`."""

from __future__ import annotations

from torch import nn


def convolutional(size: int, classes: int, width: int = 32) -> nn.Sequential:
    """Three stages of two 3 x 3 convolutions, each half as large and twice as wide as the one before.

    ``size``: pixels of a side, a multiple of 4; input are rows of 3 * size * size. Normalised by groups: statistics
    over batches would stay on their node and differ between nodes.
    """
    layers: list[nn.Module] = [nn.Unflatten(1, (3, size, size))]
    inputs = 3
    for stage in range(3):
        outputs = width << stage
        for _ in range(2):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.ReLU()]
            inputs = outputs
        if stage < 2:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
