"""The weights of a model that is trained elsewhere: nothing is lost or counted twice, whatever the model is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from learnae.errors import LayoutError
from learnae.loop.joining import draw_weights, unwrapped
from learnae.loop.weights import LiveWeights
from learnae.model import describe, gather
from tests.loop.support import batches, finish, perceptron, sum_of, updates


class Embedded(nn.Module):
    """An embedding whose weights are the last layer's too, a LayerNorm, and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 8)
        self.norm = nn.LayerNorm(8)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.head = nn.Linear(8, 4, bias=False)
        self.head.weight = self.embedding.weight
        nn.init.eye_(self.frozen.weight)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        tokens = inputs.argmax(1) % 4
        logits: torch.Tensor = self.head(self.frozen(self.norm(self.embedding(tokens))))
        return logits


class Adapted(nn.Module):
    """A frozen layer with a low-rank adapter beside it, as LoRA has them."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(8, 4).requires_grad_(False)
        self.down = nn.Parameter(torch.randn(8, 2) / 3)
        self.up = nn.Parameter(torch.zeros(2, 4))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.base(inputs) + inputs @ self.down @ self.up
        return logits


class Convolved(nn.Module):
    """Convolutions whose weights do not lie in order, and BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 2))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.no_grad():
            self.layers.get_parameter("3.weight").copy_(torch.randn(4, 4, 2, 2))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        images = inputs.view(-1, 1, 2, 4)
        logits: torch.Tensor = self.layers(images).mean((2, 3))
        return logits


def half(dtype: torch.dtype) -> Callable[[], nn.Module]:
    return lambda: perceptron(dtype=dtype)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": perceptron,
    "embedding, LayerNorm, tied, frozen": Embedded,
    "LoRA": Adapted,
    "BatchNorm, channels last": Convolved,
    "bfloat16": half(torch.bfloat16),
    "float16": half(torch.float16),
    "float64": half(torch.float64),
}


class Node:
    """A model in training, with its part of the data."""

    def __init__(self, make: Callable[[], nn.Module], seed: int) -> None:
        torch.manual_seed(0)
        self.model = make()
        self.dtype = next(self.model.parameters()).dtype
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = [{"params": parameters[:1], "lr": 0.03}, {"params": parameters[1:]}]
        self.optimizer = torch.optim.SGD(groups, lr=0.02, momentum=0.9)
        self.weights = LiveWeights(self.model, (self.optimizer,))
        self.data = batches(seed)

    def loss(self) -> torch.Tensor:
        inputs, labels = next(self.data)
        return nn.functional.cross_entropy(self.model(inputs.to(self.dtype)).float(), labels)

    def step(self) -> float:
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.weights.note(16, loss)
        return float(loss.detach())


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_replicas_agree_and_the_model_learns(make: Callable[[], nn.Module]) -> None:
    nodes = [Node(make, seed) for seed in (1, 2)]
    assert nodes[0].weights.genesis_digest == nodes[1].weights.genesis_digest
    began = np.mean([node.step() for node in nodes])
    for _ in range(25):
        for _ in range(3):
            for node in nodes:
                node.step()
        rounds = []
        for node in nodes:
            node.weights.close_round()
            node.weights.finish_work()
            rounds.append(node.weights.encode(0.5))
        for node, mine, theirs in zip(nodes, rounds, rounds[::-1], strict=True):
            node.step()  # training does not stop for it
            assert node.weights.apply(node.weights.payload(theirs.norm, theirs.parts), theirs.samples)
            node.weights.finish_work()
            node.weights.accept(node.weights.payload(parts=mine.parts), mine.samples)
            node.weights.finish_work()
    one, two = nodes
    assert one.weights.replica.digest() == two.weights.replica.digest() != one.weights.genesis_digest
    with one.weights.swarm_weights() as model, torch.no_grad():
        logits = model(torch.eye(4, 8).to(one.dtype)).float()
        ended = float(nn.functional.cross_entropy(logits, torch.arange(4)))
    assert ended < 0.8 * began


def test_frozen_weights_stay_as_they_are() -> None:
    node = Node(Embedded, 1)
    frozen = node.model.get_parameter("frozen.weight").clone()
    node.step()
    finish(node.weights)
    assert torch.equal(node.model.get_parameter("frozen.weight"), frozen)
    assert [tensor.name for tensor in node.weights.layout.tensors] == ["embedding.weight", "norm.weight", "norm.bias"]


class Compiled(nn.Module):
    """As `torch.compile` wraps a model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._orig_mod = model


def test_compiling_changes_no_name() -> None:
    assert describe(Compiled(perceptron())).fingerprint == describe(perceptron()).fingerprint
    inner = nn.Sequential(Compiled(nn.Linear(2, 2)), nn.Linear(2, 2))
    assert [tensor.name for tensor in describe(inner).tensors][:2] == ["0.weight", "0.bias"]
    assert isinstance(unwrapped(Compiled(perceptron())), nn.Sequential)


@pytest.mark.slow
def test_a_compiled_model_is_trained_and_merged() -> None:
    """Its compiler takes ten seconds to import."""
    model = perceptron()
    compiled = torch.compile(model, backend="eager")
    weights = LiveWeights(unwrapped(compiled))  # type: ignore[arg-type]
    (update,) = updates(1)
    inputs, _ = next(batches())
    before = compiled(inputs).detach()
    weights.apply(weights.payload(parts=update.parts), 1)
    weights.finish_work()
    assert not torch.equal(compiled(inputs), before)
    assert weights.layout.fingerprint == describe(perceptron()).fingerprint


ACTIONS = ["step", "close", "accept", "drop", "add", "remove", "work", "look"]
(UPDATE,) = updates(1)


@settings(max_examples=40)
@given(st.lists(st.sampled_from(ACTIONS), max_size=25))
def test_theta_is_phi_and_what_was_done_since(actions: list[str]) -> None:
    """In whatever order things come: the model is the replica, and the local steps that nobody has yet."""
    weights, local = LiveWeights(model := perceptron()), np.zeros(8 * 16 + 16 + 16 * 4 + 4)
    handed: tuple[list[bytes], np.ndarray] | None = None
    added = 0
    rng = np.random.default_rng(0)
    for action in [*actions, "work"]:
        if action == "step":
            moved = rng.normal(0, 0.01, len(local)).astype(np.float32)
            with torch.no_grad():
                nn.utils.vector_to_parameters(
                    nn.utils.parameters_to_vector(model.parameters()) + torch.from_numpy(moved), model.parameters()
                )
            local += moved
            weights.note(1, 0.5)
        elif action == "work":
            weights.finish_work()
        elif action == "look":
            weights.work()
        elif action == "close" and handed is None:
            weights.finish_work()
            weights.close_round()
            weights.finish_work()
            done = weights.encode(1.0)
            handed, local = (done.parts, local), np.zeros_like(local)
        elif action in ("accept", "drop") and handed is not None:
            weights.finish_work()
            if action == "accept":
                weights.accept(weights.payload(parts=handed[0]), 1)
            else:
                weights.restart_round()
            weights.finish_work()
            handed = None
        elif action == "add":
            weights.finish_work()
            weights.apply(weights.payload(parts=UPDATE.parts), 1)
            added += 1
        elif action == "remove" and added:
            weights.finish_work()
            weights.remove(weights.payload(parts=UPDATE.parts), 1)
            added -= 1
    since = local if handed is None else local + handed[1]
    assert np.allclose(gather(model), weights.replica.read() + since, atol=2e-6)
    assert weights.applied >= added


def test_small_progress_is_not_lost_where_the_weights_are_coarse() -> None:
    """Each update moves a weight by less than bfloat16 can tell at its size; their sum shows in the end."""
    model = nn.Linear(64, 64, bias=False).to(torch.bfloat16)
    with torch.no_grad():
        model.weight.fill_(1.0)
    weights, author = LiveWeights(model), LiveWeights(fine := nn.Linear(64, 64, bias=False))
    with torch.no_grad():
        fine.weight.fill_(1.0)
    author = LiveWeights(fine)
    author.layout = weights.layout
    for _ in range(40):
        with torch.no_grad():
            fine.weight += 0.001
        author.note(1, 0.0)
        done = finish(author, 1.0)
        assert weights.apply(weights.payload(parts=done.parts), 1)
        weights.finish_work()
        weights.close_round()
        weights.finish_work()
        weights.restart_round()
        weights.finish_work()
    assert weights.replica.digest() == author.replica.digest()
    phi, theta = weights.replica.read(), gather(model)
    assert phi.max() > 1.02
    assert abs(theta - phi).max() <= 2**-8, "as near as the data type can be"
    weights.close_round()
    weights.finish_work()
    assert abs(weights._delta).max() == 0, "rounding is no progress of its own"


def test_updates_may_be_large_and_are_added_slice_by_slice() -> None:
    model = nn.Linear(600, 600, bias=False)
    author = nn.Linear(600, 600, bias=False)
    with torch.no_grad():
        model.weight.zero_(), author.weight.zero_()
    mine, theirs = LiveWeights(model), LiveWeights(author)
    with torch.no_grad():
        author.weight += torch.randn(600, 600)
    theirs.note(1, 0.0)
    done = finish(theirs, 1.0)
    mine.apply(mine.payload(done.norm, done.parts), 1)
    assert not mine.idle and mine.replica.digest() == theirs.replica.digest()
    assert not gather(model).any(), "the model follows in slices"
    mine.finish_work()
    assert (gather(model) == mine.replica.read()).all()


@pytest.mark.parametrize("broken", ["loss", "weights"])
def test_a_dropped_round_leaves_the_swarms_weights_and_buffers(broken: str) -> None:
    node = Node(Convolved, 1)
    buffers = [buffer.clone() for buffer in node.model.buffers()]
    node.step()
    node.weights.note(1, math.nan if broken == "loss" else 0.0)
    if broken == "weights":
        with torch.no_grad():
            next(node.model.parameters()).fill_(math.nan)
    node.weights.close_round()
    node.weights.finish_work()
    assert node.weights.collected is False
    assert node.weights.drop_round().code == "loss-not-finite"
    assert (gather(node.model) == node.weights.replica.read()).all()
    assert all(map(torch.equal, node.model.buffers(), buffers))
    assert node.optimizer.state, "what is sound is kept"
    finish_after = finish(node.weights)
    assert finish_after.samples == 0


def test_accumulation_and_a_gradient_scaler_need_nothing_special() -> None:
    model = perceptron()
    optimizer, scaler = torch.optim.AdamW(model.parameters(), lr=0.01), torch.amp.GradScaler("cpu")
    weights, data = LiveWeights(model, (optimizer,)), batches(3)
    for number in range(8):
        inputs, labels = next(data)
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(model(inputs), labels)
        scaler.scale(loss / 2).backward()  # type: ignore[no-untyped-call]
        if number % 2:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            weights.note(32, loss)
    done = finish(weights)
    assert (done.samples, done.steps) == (128, 4) and done.norm > 0
    assert weights.replica.digest() == sum_of(done.parts)


# --- what is refused before joining


def with_complex() -> nn.Module:
    model = perceptron()
    model.extra = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    return model


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (with_complex, "complex"),
        (lambda: nn.Sequential(nn.LazyLinear(4)), "no values yet"),
        (lambda: nn.Linear(2, 2, device="meta"), "no values yet"),
        (lambda: perceptron().requires_grad_(False), "no trainable floating-point parameters"),
    ],
)
def test_what_cannot_be_shared_is_refused(make: Callable[[], nn.Module], match: str) -> None:
    with pytest.raises(LayoutError, match=match):
        LiveWeights(make())


@pytest.mark.parametrize("change", ["resize", "freeze", "convert", "more"])
def test_a_model_that_has_changed_is_refused(change: str) -> None:
    weights = LiveWeights(model := perceptron())
    if change == "resize":
        model.get_parameter("0.weight").data = torch.zeros(3, 3)
    elif change == "freeze":
        model.get_parameter("0.weight").requires_grad_(False)
    elif change == "convert":
        model.half()
    else:
        model.append(nn.Linear(4, 4))
    with pytest.raises(LayoutError, match="others than when it joined"):
        weights.close_round()


def test_a_seed_draws_equal_weights_and_leaves_the_random_numbers_alone() -> None:
    one, two = perceptron(1), perceptron(2)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    draw_weights(one, 5)
    draw_weights(two, 5)
    assert torch.equal(torch.rand(1), expected)
    assert (gather(one) == gather(two)).all() and (gather(one) != gather(perceptron(1))).any()
