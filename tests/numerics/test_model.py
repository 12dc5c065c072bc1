from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from learnae.errors import LayoutError
from learnae.layout import TensorSpec
from learnae.model import add, describe, gather, scatter
from tests.numerics.samples import numbers


class Mixed(nn.Module):
    """Everything that a model may hold beside plain float32 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.norm = nn.BatchNorm1d(4)
        self.coarse = nn.Linear(4, 3, dtype=torch.bfloat16)
        self.tied = nn.Linear(4, 7, bias=False)
        self.tied.weight = self.embedding.weight
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.codes = nn.Parameter(torch.arange(3), requires_grad=False)
        self.wide = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
        self.image = nn.Parameter(torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last))


def test_what_is_shared_and_what_stays_local() -> None:
    layout = describe(Mixed())
    assert layout.tensors == (
        TensorSpec("wide", (2,), "float64"),
        TensorSpec("image", (2, 3, 4, 5), "float32"),
        TensorSpec("embedding.weight", (7, 4), "float32"),
        TensorSpec("norm.weight", (4,), "float32"),
        TensorSpec("norm.bias", (4,), "float32"),
        TensorSpec("coarse.weight", (3, 4), "bfloat16"),
        TensorSpec("coarse.bias", (3,), "bfloat16"),
    )
    assert {tensor.name: tensor.dtype for tensor in layout.local} == {
        "codes": "int64",
        "frozen.weight": "float32",
        "frozen.bias": "float32",
        "norm.running_mean": "float32",
        "norm.running_var": "float32",
        "norm.num_batches_tracked": "int64",
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_gather_and_scatter_round_trip(dtype: torch.dtype) -> None:
    model = nn.Linear(30, 20, dtype=dtype)
    weights = gather(model)
    assert weights.dtype == np.float32 and weights.shape == (620,)
    other = nn.Linear(30, 20, dtype=dtype)
    scatter(other, weights)
    assert (gather(other) == weights).all()
    scatter(other, numbers(0, 620))
    assert np.allclose(gather(other), numbers(0, 620), rtol=2**-8, atol=1e-7)


def test_the_flat_vector_follows_the_layout() -> None:
    model = Mixed()
    layout = describe(model)
    weights = gather(model)
    for offset, tensor in zip(layout.offsets, layout.tensors, strict=True):
        part = weights[offset : offset + tensor.size].reshape(tensor.shape)
        assert (part == model.get_parameter(tensor.name).detach().float().numpy()).all()


def test_scatter_leaves_local_tensors_alone_and_moves_tied_ones_together() -> None:
    model = Mixed()
    local = [tensor.clone() for tensor in (*model.buffers(), *model.frozen.parameters(), model.codes)]
    scatter(model, np.zeros(describe(model).size, np.float32))
    after = (*model.buffers(), *model.frozen.parameters(), model.codes)
    assert all(torch.equal(old, new) for old, new in zip(local, after, strict=True))
    assert model.tied.weight is model.embedding.weight
    assert not model.tied.weight.any()


def test_add_moves_the_named_weights_and_says_by_how_much() -> None:
    model = Mixed()
    before = gather(model)
    rng = np.random.default_rng(0)
    index = np.sort(rng.choice(len(before), 60, replace=False))
    values = numbers(1, 60, 0.1)
    moved = add(model, index, values)
    after = gather(model)
    change = after - before
    assert np.allclose(moved, change[index], atol=1e-6)
    assert not np.delete(change, index).any()
    precise = np.repeat([True, False], (len(before) - 15, 15))[index]  # the last 15 are bfloat16
    assert np.allclose(change[index][precise], values[precise], atol=1e-6)


def test_add_reports_what_a_coarse_type_swallows() -> None:
    model = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    scatter(model, np.ones(1, np.float32))
    assert add(model, np.array([0]), np.array([1e-4], np.float32)).tolist() == [0.0]
    assert add(model, np.array([0]), np.array([0.02], np.float32)).tolist() == [3 * 2.0**-7]
    assert gather(model).tolist() == [1 + 3 * 2.0**-7]


def test_models_that_cannot_be_shared_are_refused_with_a_remedy() -> None:
    with pytest.raises(LayoutError, match="input size"):
        describe(nn.LazyLinear(3))
    with pytest.raises(LayoutError, match="no values yet"):
        describe(nn.Linear(2, 2, device="meta"))
    with pytest.raises(LayoutError, match="complex"):
        describe(nn.Linear(2, 2, dtype=torch.complex64))
    with pytest.raises(LayoutError, match="no trainable"):
        describe(nn.ReLU())
    with pytest.raises(LayoutError, match="no trainable"):
        describe(nn.Linear(2, 2).requires_grad_(False))


def test_scatter_notices_a_model_that_changed() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    weights = gather(model)
    model[0].requires_grad_(False)
    with pytest.raises(LayoutError, match="freeze"):
        scatter(model, weights)
