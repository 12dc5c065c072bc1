"""A torch model as one flat vector of its shared weights; used by the learner, the demo's control and benchmarks.

All functions agree on what is shared: the floating-point parameters that require a gradient, in the order of
``model.named_parameters()``, tied ones once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.parameter import is_lazy

from learnae.errors import LayoutError
from learnae.layout import Layout, TensorSpec


def describe(model: nn.Module) -> Layout:
    """The layout of ``model``: what is shared, and what stays local.

    Raises `LayoutError` if parameters have no values yet (lazy modules, the meta device), are complex, or if no
    floating-point parameter requires a gradient.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor) or tensor.is_meta:
            raise LayoutError(
                f"tensor {name!r} has no values yet: give the layer its input size, or run the model once on a sample",
                code="model-unshareable",
            )
    for name, parameter in model.named_parameters():
        if parameter.is_complex():
            raise LayoutError(
                f"tensor {name!r} is complex, which cannot be shared: hold real and imaginary parts as real tensors",
                code="model-unshareable",
            )
    shared = [_spec(name, parameter) for name, parameter in _shared(model)]
    if not shared:
        raise LayoutError(
            "the model has no trainable floating-point parameters, so there is nothing to train together",
            code="model-size",
        )
    frozen = [_spec(name, parameter) for name, parameter in model.named_parameters() if not _takes_part(parameter)]
    buffers = [_spec(name, buffer) for name, buffer in model.named_buffers()]
    return Layout(tuple(shared), tuple(frozen + buffers))


def gather(model: nn.Module) -> NDArray[np.float32]:
    """A copy of the shared weights as float32[D]; 64-bit weights are rounded."""
    parts = [parameter.detach().reshape(-1).to("cpu", torch.float32) for _, parameter in _shared(model)]
    weights: NDArray[np.float32] = torch.cat(parts).numpy()
    return weights


@torch.no_grad()
def scatter(model: nn.Module, weights: NDArray[np.float32]) -> None:
    """Set the shared weights to ``weights`` (float32[D]), each rounded to the parameter's own data type.

    Raises `LayoutError` if the model does not have D shared weights (any more).
    """
    flat = torch.from_numpy(weights)
    start = 0
    for _, parameter in _shared(model):
        values = flat[start : start + parameter.numel()]
        if len(values) == parameter.numel():
            parameter.copy_(values.view_as(parameter))
        start += parameter.numel()
    if start != len(flat):
        raise LayoutError(
            f"the model shares {start} weights where {len(flat)} were expected: "
            "do not add, remove, freeze or unfreeze parameters while it trains in a swarm",
            code="model-changed",
        )


@torch.no_grad()
def add(model: nn.Module, index: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add ``values`` (float32[k]) to the shared weights at ``index`` (int64[k], increasing), in place.

    Returns by how much each weight really moved (float32[k]): less than asked where its data type is coarse.
    """
    return add_to(shared_parameters(model), 0, index, values)


def shared_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are shared, in the order of the flat vector."""
    return [parameter for _, parameter in _shared(model)]


@torch.no_grad()
def add_to(
    parameters: Iterable[nn.Parameter], start: int, index: NDArray[np.int64], values: NDArray[np.float32]
) -> NDArray[np.float32]:
    """`add` to these parameters, the first of which begins at ``start`` in the flat vector, up to the last entry."""
    moved = np.empty(len(index), np.float32)
    first = 0
    for parameter in parameters:
        if first == len(index):
            break
        last = first + int(np.searchsorted(index[first:], start + parameter.numel()))
        if last > first:
            moved[first:last] = _add(parameter, index[first:last] - start, values[first:last])
        first = last
        start += parameter.numel()
    return moved


def _add(parameter: torch.Tensor, index: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
    if parameter.dtype == torch.float32 and parameter.device.type == "cpu" and parameter.is_contiguous():
        weights: NDArray[np.float32] = parameter.detach().view(-1).numpy()  # shares the memory, and indexes faster
        before = weights[index]
        after = before + values
        weights[index] = after
        after -= before
        return after
    flat = parameter.reshape(-1)  # a copy unless contiguous
    where = torch.from_numpy(index).to(flat.device)
    old = flat.index_select(0, where)
    new = (old + torch.from_numpy(values).to(flat.device)).to(flat.dtype)
    flat.index_copy_(0, where, new)
    if not parameter.is_contiguous():
        parameter.copy_(flat.view_as(parameter))
    moved: NDArray[np.float32] = (new.float() - old.float()).cpu().numpy()
    return moved


def _shared(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((plain(name), parameter) for name, parameter in model.named_parameters() if _takes_part(parameter))


def plain(name: str) -> str:
    """A parameter's name without what `torch.compile` put into it: whether a node compiles is its own business."""
    return name.replace("_orig_mod.", "")


def _takes_part(parameter: nn.Parameter) -> bool:
    return parameter.is_floating_point() and parameter.requires_grad


def _spec(name: str, tensor: torch.Tensor) -> TensorSpec:
    return TensorSpec(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
