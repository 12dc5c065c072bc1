"""How each baseline exchanges weights at the end of a round: on the flat weights of all nodes; used by `course`.

All get the nodes' weights after their local steps, float32[N, D], change them in place to what everybody goes on from,
and return how many bytes each node has sent and received. A weight takes four bytes; there is no protocol around them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from netsim.errors import ScenarioError

Weights = NDArray[np.float32]


class Rule(Protocol):
    """One baseline."""

    def exchange(self, weights: Weights) -> float:
        """Exchange; returns the bytes that a node has sent, which are as many as it has received."""


class Solo:
    """Nobody exchanges anything: each trains on its own data alone."""

    def exchange(self, weights: Weights) -> float:
        """Nothing."""
        return 0.0


class FedAvg:
    """Federated averaging (McMahan et al. 2017, arXiv 1602.05629): a server averages all nodes with equal weights."""

    def exchange(self, weights: Weights) -> float:
        """One model up, one down."""
        weights[:] = weights.mean(axis=0, dtype=np.float64)
        return 4.0 * weights.shape[1]


class DiLoCo:
    """DiLoCo (Douillard et al. 2023, arXiv 2311.08105): Nesterov momentum on the mean of all pseudo-gradients.

    ``start``: the common initial weights, float32[D]. ``rate``, ``momentum``: of the outer optimiser.
    """

    def __init__(self, start: Weights, rate: float = 0.7, momentum: float = 0.9) -> None:
        self._phi = start.astype(np.float64)
        self._velocity = np.zeros_like(self._phi)
        self._rate, self._momentum = rate, momentum

    def exchange(self, weights: Weights) -> float:
        """A ring all-reduce: each node sends twice the model, less one part in N."""
        delta = self._phi - weights.mean(axis=0, dtype=np.float64)
        self._velocity = self._momentum * self._velocity + delta
        self._phi -= self._rate * (delta + self._momentum * self._velocity)
        weights[:] = self._phi
        nodes, size = weights.shape
        return 2 * 4.0 * size * (nodes - 1) / nodes


class Pairwise:
    """Gossip averaging (Boyd et al. 2006): random pairs meet and take the mean of their weights.

    With an odd number of nodes one stays alone in each round.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng((seed, 1))

    def exchange(self, weights: Weights) -> float:
        """One model each way."""
        for one, other in _pairs(self._rng, len(weights)):
            weights[[one, other]] = (weights[one] + weights[other]) / 2
        return 4.0 * weights.shape[1] * _busy(len(weights))


class NoLoCo:
    """NoLoCo (Gensyn 2025, arXiv 2506.10911): random pairs, each node with outer weights and momentum of its own.

    With equal ``rate`` for the pseudo-gradient and for the pull towards the partner, as in the released settings, only
    the fast weights have to be exchanged. Above a ``rate`` of 1 the nodes need not come together.
    """

    def __init__(self, start: Weights, nodes: int, seed: int, rate: float = 0.7, momentum: float = 0.5) -> None:
        if not 0 < rate <= 1:
            raise ScenarioError(f"an outer rate of {rate} lets the nodes of NoLoCo drift apart: use one up to 1")
        self._phi = np.repeat(start[None].astype(np.float32), nodes, axis=0)
        self._velocity = np.zeros_like(self._phi)
        self._rate, self._momentum = np.float32(rate), np.float32(momentum)
        self._rng = np.random.default_rng((seed, 2))

    def exchange(self, weights: Weights) -> float:
        """One model each way."""
        goal = weights.copy()
        for one, other in _pairs(self._rng, len(weights)):
            goal[[one, other]] = (weights[one] + weights[other]) / 2
        self._velocity *= self._momentum
        self._velocity += self._rate * (goal - self._phi)
        self._phi += self._velocity
        weights[:] = self._phi
        return 4.0 * weights.shape[1] * _busy(len(weights))


def _pairs(rng: np.random.Generator, nodes: int) -> NDArray[np.int64]:
    """A random perfect matching, int64[N // 2, 2]."""
    return rng.permutation(nodes)[: nodes // 2 * 2].reshape(-1, 2)


def _busy(nodes: int) -> float:
    """The part of the nodes that has a partner."""
    return nodes // 2 * 2 / nodes
