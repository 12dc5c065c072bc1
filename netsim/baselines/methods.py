"""How the baselines mix the nodes' weights after a round of local steps; used by `netsim.baselines.run`.

All see the weights of every node as rows of a matrix float32[n, D], changed in place, and say how many bytes each node
has sent and received for that: float32 weights, without any protocol around them, which flatters the baselines.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float32]
Traffic = NDArray[np.float64]
"""Bytes of each node, float64[n, 2]: sent and received."""


class Method(Protocol):
    """A way to mix."""

    def mix(self, weights: Weights) -> Traffic:
        """Mix after a round."""


class Solo:
    """Nobody talks to anybody."""

    def mix(self, weights: Weights) -> Traffic:
        """Nothing."""
        return np.zeros((len(weights), 2))


class FedAvg:
    """Everybody ends at the mean (McMahan et al. 2017, arXiv 1602.05629), all nodes with equal weight.

    Each sends its weights to a server and receives the mean; what the server itself carries is not counted.
    """

    def mix(self, weights: Weights) -> Traffic:
        """The mean."""
        weights[...] = weights.mean(axis=0, dtype=np.float64).astype(np.float32)
        return _each(weights)


class DiLoCo:
    """An outer Nesterov step along the mean pseudo-gradient (Douillard et al. 2023, arXiv 2311.08105).

    ``m = mu m + D; phi = phi - rate (D + mu m)`` with D the mean of phi - theta: Nesterov's momentum as PyTorch has
    it. The defaults, 0.7 and 0.9, are the usual ones. Traffic is that of `FedAvg`.
    """

    def __init__(self, start: Weights, rate: float = 0.7, mu: float = 0.9) -> None:
        self._phi = start.astype(np.float64)
        self._momentum = np.zeros_like(self._phi)
        self._rate, self._mu = rate, mu

    def mix(self, weights: Weights) -> Traffic:
        """The outer step."""
        gradient = self._phi - weights.mean(axis=0, dtype=np.float64)
        self._momentum = self._mu * self._momentum + gradient
        self._phi -= self._rate * (gradient + self._mu * self._momentum)
        weights[...] = self._phi.astype(np.float32)
        return _each(weights)


class Pairwise:
    """Random pairs, both of whom end at the mean of the two: averaging by gossip, as in AD-PSGD (Lian et al. 2018,
    arXiv 1710.06952) but in step. With an odd number of nodes one has no partner."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def mix(self, weights: Weights) -> Traffic:
        """The mean of each pair."""
        traffic = np.zeros((len(weights), 2))
        for one, other in _pairs(self._rng, len(weights)):
            weights[[one, other]] = (weights[one] + weights[other]) / np.float32(2)
            traffic[[one, other]] = 4.0 * weights.shape[1]
        return traffic


class NoLoCo:
    """Pairs with an outer momentum of their own (Gensyn 2025, arXiv 2506.10911).

    With theta after and phi before the local steps: ``m = alpha m + beta ((theta_i + theta_j) / 2 - phi_i);
    phi_i = phi_i + m``. The published update exchanges theta - phi and phi; for its beta = gamma that is the same as
    this, which needs theta alone. Defaults as in the released configurations: alpha 0.5, beta 0.7. A node without a
    partner takes the step by itself.
    """

    def __init__(
        self, start: Weights, nodes: int, rng: np.random.Generator, alpha: float = 0.5, beta: float = 0.7
    ) -> None:
        self._phi = np.tile(start, (nodes, 1))
        self._momentum = np.zeros_like(self._phi)
        self._rng = rng
        self._alpha, self._beta = np.float32(alpha), np.float32(beta)

    def mix(self, weights: Weights) -> Traffic:
        """One exchange."""
        traffic = Pairwise(self._rng).mix(weights)
        self._momentum *= self._alpha
        self._momentum += self._beta * (weights - self._phi)
        self._phi += self._momentum
        weights[...] = self._phi
        return traffic


def _pairs(rng: np.random.Generator, nodes: int) -> list[tuple[int, int]]:
    order = rng.permutation(nodes).tolist()
    return list(zip(order[::2], order[1::2], strict=False))


def _each(weights: Weights) -> Traffic:
    """Everybody sends and receives the whole model."""
    return np.full((len(weights), 2), 4.0 * weights.shape[1])
