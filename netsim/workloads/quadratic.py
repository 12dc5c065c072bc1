"""A noisy quadratic bowl for every node, with minima of their own around a common one: thousands train in seconds.

The loss of node i is half the weighted square of the distance to its minimum; the weights (the curvature) are the same
for all and spread over a factor of ten. The mean of all nodes' losses has its minimum at the mean of their minima, so
that a swarm which weighs its nodes rightly comes closer to the common one than any of them. Stochastic gradient descent
on a quadratic has a closed form: any number of steps is one draw, from the same distribution as one step after another.
Updates are encoded and decoded by the real codec, and added to a real replica.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learnae import snapshot
from learnae.codec import CodecSettings, Encoder, Payload, chunk_exponents
from learnae.genesis import Genesis
from learnae.layout import Layout, TensorSpec
from learnae.learner import AVERAGING, Round
from learnae.replica import Replica, unit_exponents
from learnae.rules import FULL, Rules
from netsim.crew import Score
from netsim.scenario import Scenario

RATE = 0.1
"""Of the local steps."""
FLATTEST = 0.1
"""The least curvature; the largest is 1."""
BATCH = 1
"""Samples of a step."""
SLOT_SECONDS = 10.0
_FLUSH = 512
"""Most updates that wait to be added."""


class Quadratic:
    """The crew of the quadratic workload.

    Args:
        scenario: says how large and how noisy the bowl is.
        seed: of the run.
    """

    def __init__(self, scenario: Scenario, seed: int) -> None:
        workload = scenario.workload
        self.workload = workload
        self.seed = seed
        self.codec = codec_of(scenario)
        self.layout = Layout((TensorSpec("bowl", (workload.dimensions,), "float32"),))
        draw = self.draw("bowl")
        self.curvature = np.geomspace(FLATTEST, 1.0, workload.dimensions)
        draw.shuffle(self.curvature)
        self.optimum = draw.normal(0.0, 1.0, workload.dimensions)
        start = np.zeros(workload.dimensions, np.float32)
        self.exponents = unit_exponents(self.layout, start)
        self.start = Replica.from_weights(self.layout, self.exponents, start)
        self.chunk_exponents = chunk_exponents(self.layout, self.exponents)
        self.unit = math.ldexp(1.0, self.exponents[0])
        self.genesis = Genesis(
            self.layout,
            self.exponents,
            snapshot.root_of(self.start.pieces()).cid,
            workload.slot_seconds or SLOT_SECONDS,
            workload.round_steps,
            rules_of(scenario),
        )
        self._dense: dict[tuple[int, int], tuple[Payload, NDArray[np.int32]]] = {}

    def draw(self, name: str) -> np.random.Generator:
        """Random numbers of this name's own."""
        digest = hashlib.sha256(f"{self.seed} quadratic {name}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8]))

    def trainer(self, number: int) -> Bowl:
        """A new trainer for the node with this number."""
        return Bowl(self, number)

    def retire(self, trainer: Bowl) -> None:
        """Nothing is shared that would have to be given back."""

    def scores(self, trainers: Sequence[Bowl]) -> list[Score]:
        """The weighted distance of the averaged weights to the common minimum."""
        scores = []
        for trainer in trainers:
            distance = trainer.averaged() - self.optimum
            scores.append(Score(math.nan, float(np.sqrt(np.mean(self.curvature * distance * distance)))))
        return scores

    def dense(self, payload: Payload, ratio: int) -> NDArray[np.int32]:
        """What an update adds, int32[D]; the same for all nodes."""
        key = id(payload), ratio
        known = self._dense.get(key)
        if known is None:
            delta = np.zeros(self.layout.size, np.int32)
            for part in payload.parts:
                np.add.at(delta, part.index, part.delta(ratio))
            if len(self._dense) >= 8192:
                del self._dense[next(iter(self._dense))]
            known = self._dense[key] = payload, delta  # the payload is kept, so that its id stays its own
        return known[1]


class Bowl:
    """One node's trainer. What is added to it waits until its weights are looked at.

    Args:
        crew: what it shares with the others.
        number: of the node.
    """

    def __init__(self, crew: Quadratic, number: int) -> None:
        self._crew = crew
        self._draw = crew.draw(f"node {number}")
        self._minimum = crew.optimum + self._draw.normal(0.0, crew.workload.spread, crew.layout.size)
        self._replica = crew.start.copy()
        self._average = self._replica.read().astype(np.float64)
        self._theta = self._average.copy()
        self._base = self._average.copy()
        self._encoder = Encoder(crew.layout, crew.exponents, crew.codec)
        self._waiting: list[NDArray[np.int32]] = []
        self._steps = 0
        self.samples_seen = 0

    @property
    def replica(self) -> Replica:
        """The swarm's weights as this node has them."""
        self._flush()
        return self._replica

    def _flush(self) -> None:
        if self._waiting:
            moved = np.add.reduce(self._waiting, axis=0, dtype=np.int32)
            self._waiting.clear()
            self._replica.weights += moved
            change = moved * self._crew.unit
            self._theta += change
            self._base += change

    def advance(self, steps: int) -> None:
        """So many steps of gradient descent, at once."""
        self._flush()
        crew = self._crew
        kept = 1.0 - RATE * crew.curvature
        shrunk = kept**steps
        spread = RATE * crew.workload.noise * np.sqrt((1.0 - shrunk * shrunk) / (1.0 - kept * kept))
        self._theta = self._minimum + shrunk * (self._theta - self._minimum)
        self._theta += spread * self._draw.normal(0.0, 1.0, len(spread))
        self._steps += steps

    def finish_round(self, share: float) -> Round:
        """Encode what the local steps have changed."""
        self._flush()
        parts, norm = self._encoder.encode((self._theta - self._base).astype(np.float32), share)
        distance = self._theta - self._minimum
        loss = 0.5 * float(np.mean(self._crew.curvature * distance * distance))
        return Round(parts, BATCH * self._steps, self._steps, loss, norm)

    def restart_round(self) -> None:
        """Drop the local steps."""
        self._flush()
        self._base = np.asarray(self._replica.weights * self._crew.unit, np.float64)
        self._theta = self._base.copy()
        self._steps = 0

    def payload(self, claim: float | None, parts: Iterable[bytes]) -> Payload:
        """An update's payload."""
        payload = Payload(self._crew.layout, self._crew.chunk_exponents, claim)
        for part in parts:
            payload.add(part)
        return payload

    def accept(self, payload: Payload, samples: int, ratio: int = FULL) -> None:
        """Add the own update; the next round starts there."""
        self.apply(payload, samples, ratio)
        self.restart_round()

    def apply(self, payload: Payload, samples: int, ratio: int = FULL) -> bool:
        """Add a remote update."""
        if payload.void is not None:
            return False
        self._add(self._crew.dense(payload, ratio))
        self.samples_seen += samples
        return True

    def remove(self, payload: Payload, samples: int, ratio: int = FULL) -> None:
        """Take back what was added."""
        self._add(-self._crew.dense(payload, ratio))
        self.samples_seen -= samples

    def without(self, updates: Sequence[tuple[Payload, int]]) -> Replica:
        """A copy of the replica in which these updates are not."""
        copy = self.replica.copy()
        if updates:
            copy.weights -= np.add.reduce([self._crew.dense(*update) for update in updates], axis=0, dtype=np.int32)
        return copy

    def _add(self, delta: NDArray[np.int32]) -> None:
        self._waiting.append(delta)
        if len(self._waiting) >= _FLUSH:
            self._flush()

    def load(self, replica: Replica, samples: int) -> None:
        """Go on from other weights."""
        self._waiting.clear()
        self._replica = replica
        self._encoder.reset(replica.exponents)
        self._average = replica.read().astype(np.float64)
        self.samples_seen = samples
        self.restart_round()

    def tick_average(self) -> None:
        """A slot has passed."""
        self._average += AVERAGING * (self.replica.weights * self._crew.unit - self._average)

    def averaged(self) -> NDArray[np.float64]:
        """The running average of the weights, float64[D]."""
        return self._average

    def state(self) -> Any:
        """All that a restart needs."""
        self._flush()
        arrays = {name: array.copy() for name, array in self._encoder.state().items()}
        arrays |= {"replica": self._replica.weights.copy(), "average": self._average.copy()}
        arrays |= {"theta": self._theta.copy(), "base": self._base.copy()}
        return arrays, self._steps, self.samples_seen, self._draw.bit_generator.state

    def load_state(self, state: Any) -> None:
        """Go on from there."""
        arrays, self._steps, self.samples_seen, self._draw.bit_generator.state = state
        self._waiting.clear()
        self._replica = Replica(self._crew.layout, self._crew.exponents, arrays["replica"].copy())
        self._average, self._theta = arrays["average"].copy(), arrays["theta"].copy()
        self._base = arrays["base"].copy()
        self._encoder.load_state(arrays)


def rules_of(scenario: Scenario) -> Rules:
    """The rules that a scenario names, whole numbers where they must be."""
    whole = {"cut_slots", "window", "staleness"}
    return Rules(**{name: int(value) if name in whole else value for name, value in scenario.rules.items()})  # type: ignore[arg-type]


def codec_of(scenario: Scenario) -> CodecSettings:
    """The codec that a scenario names, whole numbers where they must be."""
    return CodecSettings(**{name: int(value) if name == "least" else value for name, value in scenario.codec.items()})  # type: ignore[arg-type]
