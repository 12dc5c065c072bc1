"""The exchanges of the baselines, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsim.baselines.rules import DiLoCo, FedAvg, NoLoCo, Pairwise, Solo, Weights
from netsim.errors import ScenarioError


def drawn(nodes: int, size: int, seed: int) -> Weights:
    return np.random.default_rng(seed).standard_normal((nodes, size)).astype(np.float32)


nodes, sizes, seeds = st.integers(1, 9), st.integers(1, 20), st.integers(0, 99)


@given(nodes, sizes, seeds)
def test_fedavg_gives_everybody_the_mean(count: int, size: int, seed: int) -> None:
    weights = drawn(count, size, seed)
    mean = weights.mean(axis=0, dtype=np.float64)
    assert FedAvg().exchange(weights) == 4 * size
    assert np.allclose(weights, mean) and (weights == weights[0]).all()


def test_solo_changes_nothing_and_costs_nothing() -> None:
    weights = drawn(3, 5, 0)
    before = weights.copy()
    assert Solo().exchange(weights) == 0 and np.array_equal(weights, before)


@given(nodes, sizes, seeds)
def test_diloco_without_momentum_at_rate_one_is_fedavg(count: int, size: int, seed: int) -> None:
    start, weights = drawn(1, size, seed)[0], drawn(count, size, seed + 100)
    expected = weights.mean(axis=0, dtype=np.float64)
    DiLoCo(start, rate=1.0, momentum=0.0).exchange(weights)
    assert np.allclose(weights, expected, atol=1e-6)


def test_diloco_is_torchs_nesterov_on_the_pseudo_gradient() -> None:
    torch = pytest.importorskip("torch")
    start = drawn(1, 6, 1)[0]
    phi = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    outer = torch.optim.SGD([phi], lr=0.7, momentum=0.9, nesterov=True)
    rule = DiLoCo(start)
    for turn in range(5):
        weights = drawn(4, 6, 10 + turn)
        phi.grad = phi.detach() - torch.tensor(weights.mean(axis=0, dtype=np.float64))
        outer.step()
        rule.exchange(weights)
        assert np.allclose(weights[0], phi.detach().numpy(), atol=1e-5)


def test_diloco_sends_what_a_ring_does() -> None:
    assert DiLoCo(np.zeros(10, np.float32)).exchange(drawn(4, 10, 0)) == 2 * 40 * 3 / 4


@given(nodes, sizes, seeds)
def test_pairs_keep_the_mean_and_come_together(count: int, size: int, seed: int) -> None:
    weights = drawn(count, size, seed)
    mean = weights.mean(axis=0, dtype=np.float64)
    before = float(weights.var(axis=0).sum())
    rule = Pairwise(seed)
    for _ in range(40):
        sent = rule.exchange(weights)
    assert sent == pytest.approx(4 * size * (count // 2 * 2) / count)
    assert np.allclose(weights.mean(axis=0), mean, atol=1e-4)
    assert float(weights.var(axis=0).sum()) <= max(before * 1e-2, 1e-6)


def test_noloco_equals_the_published_form_with_two_vectors() -> None:
    """Pseudo-gradients and slow weights averaged apart: the same, for equal rates."""
    count, size, rate, momentum = 6, 5, 0.7, 0.5
    start = drawn(1, size, 3)[0]
    rule, pairs = NoLoCo(start, count, seed=4, rate=rate, momentum=momentum), np.random.default_rng((4, 2))
    phi, velocity = np.repeat(start[None].astype(np.float64), count, axis=0), np.zeros((count, size))
    for turn in range(6):
        weights = drawn(count, size, 20 + turn)
        partner = np.empty(count, np.int64)
        for one, other in pairs.permutation(count).reshape(-1, 2):
            partner[one], partner[other] = other, one
        delta = weights - phi
        mean_delta, mean_phi = (delta + delta[partner]) / 2, (phi + phi[partner]) / 2
        velocity = momentum * velocity + rate * mean_delta + rate * (mean_phi - phi)
        phi = phi + velocity
        rule.exchange(weights)
        assert np.allclose(weights, phi, atol=1e-5)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, 2.0])
def test_noloco_refuses_rates_that_drift_apart(rate: float) -> None:
    with pytest.raises(ScenarioError, match="drift apart"):
        NoLoCo(np.zeros(3, np.float32), 4, seed=0, rate=rate)


def test_nodes_of_noloco_come_together_without_training() -> None:
    rule = NoLoCo(np.zeros(4, np.float32), 16, seed=1)
    rule.exchange(drawn(16, 4, 5))
    for _ in range(200):
        weights = np.zeros((16, 4), np.float32)
        weights[:] = rule._phi
        rule.exchange(weights)
    assert float(weights.std(axis=0).max()) < 1e-4
