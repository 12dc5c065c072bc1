"""A model's shared parameters as a flat vector that is read and changed bit by bit; used by the loop's weights."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from learnae.errors import LayoutError
from learnae.layout import Layout
from learnae.model import add_to, shared_parameters

SLICE: Final = 2**17
"""Weights of a slice: its handling takes about a millisecond."""


class Slice(NamedTuple):
    """A run of the flat vector inside one tensor."""

    start: int
    stop: int
    tensor: int


class FlatParameters:
    """The shared parameters of ``model``, whose layout is ``layout``; they are looked up once."""

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        self._model = model
        self._layout = layout
        self._parameters = shared_parameters(model)
        self._starts = np.array(layout.offsets)
        self.slices = [piece for number in range(len(self._parameters)) for piece in self._cut(number)]

    def _cut(self, number: int) -> list[Slice]:
        start, parameter = self._layout.offsets[number], self._parameters[number]
        stop = start + parameter.numel()
        # Of weights that do not lie in order only the whole can be had without copying all of them each time.
        width = SLICE if parameter.is_contiguous() else max(parameter.numel(), 1)
        return [Slice(first, min(first + width, stop), number) for first in range(start, stop, width)]

    def check(self) -> None:
        """Raises `LayoutError` if the model has other parameters than it had."""
        found = shared_parameters(self._model)
        sound = len(found) == len(self._parameters) and all(map(_same, found, self._parameters))
        shapes = [(tuple(parameter.shape), str(parameter.dtype).removeprefix("torch.")) for parameter in found]
        if not sound or shapes != [(tensor.shape, tensor.dtype) for tensor in self._layout.tensors]:
            raise LayoutError(
                "the model's parameters are others than when it joined the swarm: "
                "do not add, replace, resize, freeze or convert parameters while it trains in a swarm",
                code="model-changed",
            )

    @torch.no_grad()
    def read(self, piece: Slice) -> NDArray[np.float32]:
        """A copy of the weights of a slice; 64-bit weights are rounded."""
        flat = self._flat(piece).to("cpu", torch.float32, copy=True)
        weights: NDArray[np.float32] = flat.numpy()
        return weights

    @torch.no_grad()
    def write(self, piece: Slice, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Set the weights of a slice, each rounded to the data type of its tensor; returns what they are now."""
        parameter = self._parameters[piece.tensor]
        if parameter.is_contiguous():
            self._flat(piece).copy_(torch.from_numpy(values))
        else:
            parameter.copy_(torch.from_numpy(values).view(parameter.shape))
        return values if parameter.dtype in (torch.float32, torch.float64) else self.read(piece)

    def add(self, index: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add in place, as `learnae.model.add` does; returns by how much each weight really moved."""
        # Only the tensors that these entries lie in are looked at.
        first = int(np.searchsorted(self._starts, index[0], "right")) - 1 if len(index) else 0
        return add_to(self._parameters[first:], self._layout.offsets[first], index, values)

    def _flat(self, piece: Slice) -> torch.Tensor:
        offset = self._layout.offsets[piece.tensor]
        return self._parameters[piece.tensor].detach().reshape(-1)[piece.start - offset : piece.stop - offset]


def _same(one: nn.Parameter, other: nn.Parameter) -> bool:
    return one is other
