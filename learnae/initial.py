"""Weights that a swarm begins with instead of its task's own, from a model file or a cut; used by the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from learnae.blocks import Blocks
from learnae.cid import from_text, to_text
from learnae.errors import LayoutError, StoreError, WireError
from learnae.manifest import Manifest
from learnae.replica import Replica
from learnae.snapshot import layout_of, read

Tensors = Mapping[str, torch.Tensor]


def read_weights(source: str, blocks: Blocks) -> Tensors:
    """The tensors of a safetensors file, by its path, or the weights of a cut, by the CID of it.

    Raises:
        StoreError: the file cannot be read or is none such, or a block of the cut is missing or damaged.
    """
    try:
        cut = from_text(source)
    except WireError:
        return _of_file(Path(source))
    data = blocks.get(cut)
    if data is None:
        raise StoreError(
            f"the cut {to_text(cut)} is not on the disk, or damaged: fetch it with `learnae pin {to_text(cut)}`",
            code="snapshot-damaged",
        )
    root = Manifest.decode(data).weights
    return named(Replica.from_snapshot(read(blocks, root), layout_of(read(blocks, root))))


def named(replica: Replica) -> Tensors:
    """The weights of a replica, float32, each tensor by its name."""
    layout, weights = replica.layout, torch.from_numpy(replica.read())
    return {
        tensor.name: weights[offset : offset + tensor.size].reshape(tensor.shape)
        for offset, tensor in zip(layout.offsets, layout.tensors, strict=True)
    }


def take(model: nn.Module, tensors: Tensors) -> list[str]:
    """Set what has the same name in the model; the names of its parameters that were left as they are.

    What the model does not have, such as the head of another task, does not matter.

    Raises:
        LayoutError: nothing fits, or a tensor has another shape than the model's of that name; the model is as it was.
    """
    own = model.state_dict()
    fits = [name for name in own if name in tensors]
    odd = [name for name in fits if own[name].shape != tensors[name].shape]
    if odd or not fits:
        theirs = f"{odd[0]} is {tuple(tensors[odd[0]].shape)} there" if odd else f"{_some(tensors)} there"
        ours = f"{tuple(own[odd[0]].shape)} in the model" if odd else f"{_some(own)} in the model"
        raise LayoutError(
            f"the weights to begin with are of another model: {theirs} and {ours}. Give those of the same one; tensors "
            "that shall be new must have other names, or be left out of the file",
            code="init-foreign",
        )
    with torch.no_grad():
        for name in fits:
            own[name].copy_(tensors[name])
    return sorted(name for name, _ in model.named_parameters() if name not in tensors)


def _some(names: Tensors) -> str:
    return ", ".join([*sorted(names)[:2], "..."])


def _of_file(path: Path) -> Tensors:
    try:
        found: Tensors = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise StoreError(
            f"{path} cannot be read as a safetensors file ({error}): give one that `learnae export` or safetensors has "
            "written",
            code="file-unreadable",
        ) from error
    return found
