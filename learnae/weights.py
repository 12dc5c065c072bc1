"""A model's own weights beside the swarm's: the numeric half of a node, without task, network or clock.

Names as in the DiLoCo papers: *phi* are the weights that the swarm shares, here the replica; *theta* are the model's
own weights, which local steps move away from phi until the round ends. Used by `Learner` and by the user's own loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from learnae.codec import CodecSettings, Encoder, Part, Payload, chunk_exponents
from learnae.errors import CodecError, LearnerError
from learnae.model import add, describe, gather, scatter
from learnae.replica import Replica, unit_exponents
from learnae.rules import FULL

AVERAGING: Final = 0.3
"""Weight of the newest replica in the running average, which so spans about three ticks: longer when updates come late
and the exact weights swing, shorter while the model still learns fast."""


@dataclass(frozen=True, slots=True)
class Round:
    """What a finished round offers to the swarm.

    ``parts``: the update's payload. ``samples``, ``steps``: the local work behind it. ``loss``: mean training loss,
    None without steps. ``norm``: Euclidean norm of what the parts add, in weight units, never rounded down.
    """

    parts: list[bytes]
    samples: int
    steps: int
    loss: float | None
    norm: float


@dataclass(frozen=True, slots=True)
class LearnerStatistics:
    """Totals of this learner: own work, updates applied (own ones too) and void, samples behind what was applied."""

    rounds: int
    steps: int
    samples: int
    applied: int
    void: int
    samples_seen: int
    headroom: float
    alarms: tuple[str, ...]


class SharedWeights:
    """Keeps the replica, and what this node has still to say, for one model. Not safe to call from two threads at once.

    ``codec`` shapes the own updates. ``genesis_digest`` is the digest of the weights that the model came with. Raises
    `LayoutError` for a model that cannot be shared.
    """

    def __init__(self, model: nn.Module, codec: CodecSettings | None = None) -> None:
        self.model = model
        self.layout = describe(model)
        weights = gather(model)
        exponents = unit_exponents(self.layout, weights)
        self._set_replica(Replica.from_weights(self.layout, exponents, weights))
        self.genesis_digest = self.replica.digest()
        self.encoder = Encoder(self.layout, exponents, codec)
        self._average = self.replica.read()
        self._base = np.empty(self.layout.size, np.float32)
        self.samples_seen = self.rounds = self.steps = self.samples = self.applied = self.void = 0
        self._round_samples = 0
        self._losses: list[float] = []
        self._saved_buffers: list[torch.Tensor] = []

    @property
    def exponents(self) -> tuple[int, ...]:
        """Of each tensor's unit; another genesis may bring others."""
        return self.replica.exponents

    @property
    def round_samples(self) -> int:
        """Samples of the local steps since the last round."""
        return self._round_samples

    def finish_round(self, share: float) -> Round:
        """Encode what the local steps since the last round have changed; ``share``: this node's part of the swarm.

        Replica and theta stay as they are until `accept`. Raises `LearnerError` if a loss or a weight is not finite:
        then nothing is to be published, and theta, local buffers and optimiser are back where the round began.
        """
        delta = gather(self.model)
        delta -= self._base
        if not all(map(math.isfinite, (delta.max(), delta.min(), *self._losses))):
            copy_into(self.model.buffers(), self._saved_buffers)
            self._reset_optimizer()
            self._start_round()
            raise not_finite()
        try:
            parts, norm = self.encoder.encode(delta, share)
        except CodecError as error:
            self.restart_round()
            raise LearnerError(f"this round cannot be encoded and is dropped: {error}", code="round-failed") from error
        loss = math.fsum(self._losses) / len(self._losses) if self._losses else None
        self.rounds += 1
        self.steps += len(self._losses)
        self.samples += self._round_samples
        return Round(parts, self._round_samples, len(self._losses), loss, norm)

    def payload(self, claim: float | None = None, parts: Iterable[bytes] = ()) -> Payload:
        """What gathers the parts of an update in the units of the replica; ``claim`` as in `Payload`."""
        payload = Payload(self.layout, self._chunk_exponents, claim)
        for part in parts:
            payload.add(part)
        return payload

    def accept(self, payload: Payload, samples: int, ratio: int = FULL) -> None:
        """The own update is stored for good: add it to the replica as everybody will; the next round starts there.

        The caller sees to it that each update, own or remote, is given exactly once. Raises `CodecError` if it is void.
        """
        if payload.void is not None:
            raise CodecError(payload.void)
        for part in payload.parts:
            self.replica.apply(part.index, part.delta(ratio))
        self.applied += 1
        self.samples_seen += samples
        self._start_round()

    def restart_round(self) -> None:
        """Theta := phi, for an own update that is in the replica already or will never be; local steps are dropped."""
        self._start_round()

    def apply(self, payload: Payload, samples: int, ratio: int = FULL) -> bool:
        """Add a remote update to the replica and, in place, to the model, between two local steps.

        ``ratio``, 0 to `FULL`: by which part of itself it counts. Returns False, and changes nothing, if it is void.
        """
        if payload.void is not None:
            self.void += 1
            return False
        self._move(payload, ratio, 1)
        self.applied += 1
        self.samples_seen += samples
        return True

    def remove(self, payload: Payload, samples: int, ratio: int = FULL) -> None:
        """Take back what `apply` or `accept` of this update with this ratio had added. Raises `CodecError` if void."""
        if payload.void is not None:
            raise CodecError(payload.void)
        self._move(payload, ratio, -1)
        self.applied -= 1
        self.samples_seen -= samples

    def _move(self, payload: Payload, ratio: int, sign: int) -> None:
        for part in payload.parts:
            delta = part.delta(ratio)
            delta *= sign
            self.replica.apply(part.index, delta)
            # The base moves as far as theta really did: what rounding swallowed is not mistaken for local progress.
            np.add.at(self._base, part.index, add(self.model, part.index, self._values(part, delta)))

    def _values(self, part: Part, delta: NDArray[np.int32]) -> NDArray[np.float32]:
        """What these units of a part's entries are as weights."""
        values = np.repeat(self._units[part.first : part.first + len(part.counts)], part.counts)
        values *= delta
        return values

    def load(self, replica: Replica, samples: int) -> None:
        """Go on from another replica of this model, with so many samples behind it, as a newcomer would.

        The round is dropped; what was pending, the momenta, and the optimiser's state belong to the weights that were.
        """
        self._set_replica(replica)
        self.encoder.reset(replica.exponents)
        self.replica.read(self._average)
        self.samples_seen = samples
        self._reset_optimizer()
        self._start_round()

    @contextmanager
    def swarm_weights(self, averaged: bool = False) -> Iterator[nn.Module]:
        """The model with the swarm's weights, exact or as their running average, in evaluation mode and without
        gradients; afterwards theta and the mode of each of its modules are what they were."""
        theta = [parameter.detach().clone() for parameter in self.model.parameters()]
        modes = [(module, module.training) for module in self.model.modules()]
        scatter(self.model, self._average if averaged else self.replica.read())
        self.model.eval()
        try:
            with torch.no_grad():
                yield self.model
        finally:
            copy_into(self.model.parameters(), theta)
            for module, training in modes:
                module.training = training

    def tick_average(self) -> None:
        """Take the replica into the running average; to be called once per slot."""
        self._average += np.float32(AVERAGING) * (self.replica.read() - self._average)

    def averaged(self) -> NDArray[np.float32]:
        """A copy of the running average of the weights, float32[D]."""
        return self._average.copy()

    def statistics(self) -> LearnerStatistics:
        """Counters, and how near the replica is to its range."""
        replica = self.replica.statistics()
        return LearnerStatistics(
            *(self.rounds, self.steps, self.samples, self.applied, self.void, self.samples_seen),
            *(replica.headroom, replica.alarms),
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """All that a restart needs to go on exactly here, as named arrays."""
        raise NotImplementedError

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a `state`. Raises `LearnerError` if it belongs to another model or is damaged."""
        raise NotImplementedError

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """What a restart needs, but for what torch holds; the arrays are the own ones."""
        counters = [self.samples_seen, self.rounds, self.steps, self.samples, self.applied, self.void]
        return {
            **self.encoder.state(),
            "replica": self.replica.weights,
            "exponents": np.array(self.exponents, np.int32),
            "average": self._average,
            "base": self._base,
            "losses": np.array(self._losses, np.float64),
            "counters": np.array([*counters, *self._positions()], np.int64),
        }

    def _load_arrays(self, state: Mapping[str, NDArray[Any]]) -> list[int]:
        """Take over `_arrays`; the positions among them. Raises anything if they belong to another model."""
        exponents = state["exponents"].tolist()
        self._set_replica(Replica(self.layout, exponents, np.array(state["replica"])))
        self.encoder.reset(exponents)
        self.encoder.load_state(state)
        self._average[...] = state["average"]
        self._base[...] = state["base"]
        self._losses = state["losses"].tolist()
        counters = state["counters"].tolist()
        self.samples_seen, self.rounds, self.steps, self.samples, self.applied, self.void = counters[:6]
        positions: list[int] = counters[6:]
        return positions

    def _positions(self) -> Sequence[int]:
        """Whole numbers to be kept beside the counters."""
        return ()

    def _set_replica(self, replica: Replica) -> None:
        self.replica = replica
        self._chunk_exponents = chunk_exponents(self.layout, replica.exponents)
        self._units = np.ldexp(np.float32(1), self._chunk_exponents)  # of each chunk

    def _start_round(self) -> None:
        """Theta := phi."""
        scatter(self.model, self.replica.read(self._base))
        self._base[:] = gather(self.model)
        self._saved_buffers = [buffer.clone() for buffer in self.model.buffers()]
        self._losses = []
        self._round_samples = 0

    def _reset_optimizer(self) -> None:
        """Forget the optimiser's state, which belongs to weights that are given up."""


def not_finite() -> LearnerError:
    """What to raise when a round is dropped for its numbers."""
    return LearnerError(
        "the loss or the weights became NaN or infinite; this round is dropped and training restarts from the "
        "swarm's weights: if it happens again, lower the learning rate or look for bad samples in the data",
        code="loss-not-finite",
    )


def foreign_state(error: Exception) -> LearnerError:
    """What to raise when a stored state is of no use."""
    return LearnerError(
        f"the trainer's stored state does not fit this task ({type(error).__name__}: {error}): "
        "start with a fresh profile, or with the task that wrote it",
        code="state-foreign",
    )


@torch.no_grad()
def copy_into(targets: Iterable[torch.Tensor], values: Iterable[torch.Tensor]) -> None:
    """Copy each value over its target."""
    for target, value in zip(targets, values, strict=True):
        target.copy_(value)
