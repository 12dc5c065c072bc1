"""Weights to begin with: from a file, from a cut; what fits is taken, what does not is refused before anybody joins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from learnae import snapshot
from learnae.blocks import Blocks
from learnae.cid import DAG_CBOR, raw_cid, to_text
from learnae.errors import LayoutError, StoreError
from learnae.initial import Tensors, read_weights, take
from learnae.learner import Learner
from learnae.manifest import Interval, Manifest
from learnae.model import gather
from learnae.task import Shard
from learnae.tasks.digits import Digits
from learnae.vector import VersionVector


def trained() -> Learner:
    made = Learner(Digits(), Shard(0, 1), seed=1)
    for _ in range(3):
        made.step()
    return made


def state(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in learner.model.state_dict().items()}


@pytest.fixture
def blocks(tmp_path: Path) -> Blocks:
    return Blocks(tmp_path / "blocks")


def test_a_swarm_begins_with_the_weights_of_a_file(tmp_path: Path, blocks: Blocks) -> None:
    before = trained()
    save_file(state(before), tmp_path / "model.safetensors")
    tensors = read_weights(str(tmp_path / "model.safetensors"), blocks)
    one, other = (Learner(Digits(), Shard(index, 2), seed=index, initial=tensors) for index in range(2))
    np.testing.assert_allclose(gather(one.model), gather(before.model), rtol=0, atol=1e-6)  # as a replica holds them
    assert one.fresh == []
    assert one.genesis_digest == other.genesis_digest != Learner(Digits(), Shard(0, 1)).genesis_digest


def test_a_swarm_begins_with_the_weights_of_a_cut(blocks: Blocks) -> None:
    replica = trained().replica
    root, vector = snapshot.write(blocks, replica.pieces()), VersionVector()
    vector.add(bytes(32), 1)
    cut = Manifest(bytes(32), 0, (), (Interval(0, vector, 1.0, 1, None),), bytes(32), 1, 1, root.cid, root.size)
    blocks.put(DAG_CBOR, cut.encode())
    one = Learner(Digits(), Shard(0, 1), initial=read_weights(to_text(cut.cid), blocks))
    assert (one.replica.read() == replica.read()).all()


def test_a_cut_that_is_not_here_is_named(blocks: Blocks) -> None:
    vector = VersionVector()
    vector.add(bytes(32), 1)
    cut = Manifest(bytes(32), 0, (), (Interval(0, vector, 1.0, 1, None),), bytes(32), 1, 1, raw_cid(b"weights"), 1)
    with pytest.raises(StoreError, match=rf"{to_text(cut.cid)} is not on the disk.*learnae pin"):
        read_weights(to_text(cut.cid), blocks)


def test_a_new_head_keeps_its_own_weights_and_is_named() -> None:
    body = nn.Linear(4, 3)
    model = nn.ModuleDict({"body": nn.Linear(4, 3), "head": nn.Linear(3, 2)})
    head = model["head"].get_parameter("weight").detach().clone()
    tensors: Tensors = {f"body.{name}": tensor for name, tensor in body.state_dict().items()}
    assert take(model, tensors | {"other.head": torch.zeros(9)}) == ["head.bias", "head.weight"]  # type: ignore[operator]
    assert (model["body"].get_parameter("weight") == body.weight).all()
    assert (model["head"].get_parameter("weight") == head).all()


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"weight": torch.zeros(5, 4), "bias": torch.zeros(3)}, r"weight is \(5, 4\) there and \(3, 4\) in the model"),
        ({"elsewhere": torch.zeros(3)}, r"elsewhere, ... there and bias, weight, ... in the model"),
        ({}, "of another model"),
    ],
)
def test_weights_of_another_model_are_refused_and_nothing_is_changed(tensors: Tensors, why: str) -> None:
    model = nn.Linear(4, 3)
    before = gather(model)
    with pytest.raises(LayoutError, match=why) as caught:
        take(model, tensors)
    assert caught.value.code == "init-foreign"
    assert (gather(model) == before).all()


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0{}      "[:10]])
def test_a_file_that_is_none_is_refused(tmp_path: Path, blocks: Blocks, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(StoreError, match="cannot be read as a safetensors file") as caught:
        read_weights(str(tmp_path / "x.safetensors"), blocks)
    assert caught.value.code == "file-unreadable"
