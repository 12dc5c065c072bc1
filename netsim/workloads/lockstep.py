"""Local steps of many equal perceptrons at once, as batched matrix products; used by the image workload.

The same mathematics as `learnae.learner.Learner.step` with cross-entropy, clipped gradients and SGD with momentum, and
equal to it up to the rounding of float32. A small network alone leaves a processor idle between its many tiny
operations; a dozen together do not. More than fit the cache would be slower again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import nn
from torch.nn import functional

CACHE: Final = 6 * 2**20
"""Bytes of weights, momenta and gradients that may be worked on at a time."""

Batch = tuple[torch.Tensor, torch.Tensor]


def layers(model: nn.Module) -> list[nn.Linear] | None:
    """The layers of a perceptron with ReLU between them; None if the model is anything else."""
    if type(model) is not nn.Sequential:
        return None
    found = [part for part in model if type(part) is nn.Linear]
    regular = all(type(part) is (nn.ReLU if index % 2 else nn.Linear) for index, part in enumerate(model))
    sound = all(
        p.dtype == torch.float32 and p.device.type == "cpu" and p.requires_grad for p in model.parameters()
    ) and all(layer.bias is not None for layer in found)
    return found if regular and sound and len(model) % 2 else None


def group_size(model: nn.Module) -> int:
    """How many such models are worked on at a time."""
    return max(1, CACHE // (3 * 4 * sum(parameter.numel() for parameter in model.parameters())))


class Lockstep:
    """Room for a group of perceptrons like `model`, at most `size`.

    Args:
        model: an example.
        size: of the group.
        momentum: of SGD, without dampening.
        max_norm: gradients are clipped to this norm, each network's own; None leaves them alone.
    """

    def __init__(self, model: nn.Module, size: int, momentum: float, max_norm: float | None) -> None:
        shapes = [tuple(parameter.shape) for parameter in model.parameters()]
        self._weights = [torch.empty(size, *shape) for shape in shapes]
        self._momenta = [torch.empty(size, *shape) for shape in shapes]
        self._momentum = momentum
        self._max_norm = max_norm

    @torch.no_grad()
    def put(self, row: int, weights: Sequence[torch.Tensor], momenta: Sequence[torch.Tensor]) -> None:
        """A network takes its place; both lists are in the order of the model's parameters."""
        for room, tensor in zip((*self._weights, *self._momenta), (*weights, *momenta), strict=True):
            room[row].copy_(tensor)

    @torch.no_grad()
    def get(self, row: int, weights: Sequence[torch.Tensor], momenta: Sequence[torch.Tensor]) -> None:
        """Copy a network's weights and momenta back."""
        for room, tensor in zip((*self._weights, *self._momenta), (*weights, *momenta), strict=True):
            tensor.copy_(room[row])

    @torch.no_grad()
    def step(self, batches: Sequence[Batch], rates: Sequence[float]) -> list[float]:
        """One step of the first networks, as many as there are batches. A network whose loss is not finite stays.

        Args:
            batches: of each network images float32[b, inputs] and classes int64[b]; b may differ.
            rates: of each network the learning rate.

        Returns:
            Of each network the loss before the step.
        """
        count = len(batches)
        weights, momenta = [w[:count] for w in self._weights], [m[:count] for m in self._momenta]
        images, labels, parts = _padded(batches)
        pairs = list(zip(weights[::2], weights[1::2], strict=True))
        outputs = [images]
        for matrix, bias in pairs[:-1]:
            outputs.append(torch.baddbmm(bias.unsqueeze(1), outputs[-1], matrix.transpose(1, 2)).relu_())
        matrix, bias = pairs[-1]
        scores = torch.baddbmm(bias.unsqueeze(1), outputs[-1], matrix.transpose(1, 2))
        logs = functional.log_softmax(scores, 2)
        losses = -(logs.gather(2, labels).squeeze(2) * parts).sum(1)
        slope = logs.exp_()
        slope.scatter_add_(2, labels, slope.new_full((1, 1, 1), -1.0).expand(labels.shape))
        slope *= parts.unsqueeze(2)
        gradients: list[torch.Tensor] = []
        for index in reversed(range(len(pairs))):
            gradients[:0] = [torch.bmm(slope.transpose(1, 2), outputs[index]), slope.sum(1)]
            if index:
                slope = torch.bmm(slope, pairs[index][0])
                slope *= outputs[index] > 0
        self._move(weights, momenta, gradients, losses, torch.tensor(rates))
        return losses.tolist()

    def _move(
        self,
        weights: Sequence[torch.Tensor],
        momenta: Sequence[torch.Tensor],
        gradients: Sequence[torch.Tensor],
        losses: torch.Tensor,
        rates: torch.Tensor,
    ) -> None:
        """Clip, and go along the momenta."""
        finite = losses.isfinite()
        stay = [] if finite.all() else (~finite).nonzero()[:, 0].tolist()
        kept = [[tensor[row].clone() for tensor in (*weights, *momenta)] for row in stay]
        scale = torch.ones_like(losses)
        if self._max_norm is not None:
            squares = [gradient.flatten(1).square().sum(1) for gradient in gradients]
            scale = (self._max_norm / (torch.stack(squares).sum(0).sqrt() + 1e-6)).clamp(max=1.0)
        for weight, momentum, gradient in zip(weights, momenta, gradients, strict=True):
            shape = (-1, *[1] * (weight.dim() - 1))
            momentum.mul_(self._momentum).addcmul_(gradient, scale.view(shape))
            weight.addcmul_(momentum, rates.view(shape), value=-1.0)
        for row, tensors in zip(stay, kept, strict=True):
            for tensor, value in zip((*weights, *momenta), tensors, strict=True):
                tensor[row] = value


def _padded(batches: Sequence[Batch]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images [n, b, inputs], classes [n, b, 1], and what each sample counts in its batch's mean [n, b], padding 0."""
    sizes = [len(labels) for _, labels in batches]
    most = max(sizes)
    if min(sizes) == most:
        images, labels = (torch.stack(tensors) for tensors in zip(*batches, strict=True))
        return images, labels.unsqueeze(2), torch.full(labels.shape, 1.0 / most)
    images = torch.zeros(len(batches), most, batches[0][0].shape[1])
    labels = torch.zeros(len(batches), most, dtype=torch.int64)
    parts = torch.zeros(len(batches), most)
    for row, ((pixels, classes), size) in enumerate(zip(batches, sizes, strict=True)):
        images[row, :size], labels[row, :size], parts[row, :size] = pixels, classes, 1.0 / size
    return images, labels.unsqueeze(2), parts
