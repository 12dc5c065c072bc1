"""The numeric halves of all simulated nodes: what the engine asks of a workload, and an attack of a trainer.

A crew stands for the trainer processes of all nodes, so that it can do the local steps of many of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from learnae.codec import Payload
from learnae.genesis import Genesis
from learnae.learner import Round
from learnae.replica import Replica


@dataclass(frozen=True, slots=True)
class Score:
    """How good weights are on held-out data: ``accuracy`` from 0 to 1 (nan if there is no such thing), and ``loss``."""

    accuracy: float
    loss: float


class Trainer(Protocol):
    """One node's numerics, with the meaning that these names have in `learnae.learner.Learner`."""

    @property
    def replica(self) -> Replica:
        """The swarm's weights as this node has them."""

    def advance(self, steps: int) -> None:
        """So many local steps are due; they may be done later, but before anything else here is looked at."""

    def finish_round(self, share: float) -> Round:
        """Encode what the local steps since the last round have changed."""

    def restart_round(self) -> None:
        """Drop the local steps."""

    def payload(self, claim: float | None, parts: Iterable[bytes]) -> Payload:
        """An update's payload, in the units of the replica; equal for all nodes with one genesis."""

    def accept(self, payload: Payload, samples: int, ratio: int) -> None:
        """Add the own update; the next round starts there."""

    def apply(self, payload: Payload, samples: int, ratio: int) -> bool:
        """Add a remote update; False if it is void."""

    def remove(self, payload: Payload, samples: int, ratio: int) -> None:
        """Take back what was added."""

    def without(self, updates: Sequence[tuple[Payload, int]]) -> Replica:
        """A copy of the replica in which these updates, each with the ratio at which it counts, are not."""

    def load(self, replica: Replica, samples: int) -> None:
        """Go on from other weights."""

    def tick_average(self) -> None:
        """A slot has passed: take the replica into the running average."""

    def state(self) -> Any:
        """All that a restart needs, as the checkpoint on the node's disk; opaque to the engine."""

    def load_state(self, state: Any) -> None:
        """Go on from a checkpoint."""


T = TypeVar("T", bound=Trainer)


class Crew(Protocol[T]):
    """The trainers of a run."""

    genesis: Genesis

    def trainer(self, number: int) -> T:
        """A new trainer for the node with this number (from 0), on its own data, at the weights of genesis."""

    def retire(self, trainer: T) -> None:
        """This one will not be used again."""

    def scores(self, trainers: Sequence[T]) -> list[Score]:
        """Of the averaged weights of each."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An update of another node as an attacker has heard it: its payload, the norm that it claims, and its slot."""

    payload: Payload
    norm: float
    slot: int


class Attack(Protocol):
    """What a node does instead of being honest; `netsim.attacks.named` gives the one that a scenario names.

    Each attacking node has one of its own.
    """

    def round(self, trainer: Trainer, done: Round, heard: Sequence[Heard], share: float) -> Round | None:
        """What it hands in instead of its honest round, given what it has heard since its last one; None: nothing."""

    def publish(self, author: bytes, sign: Callable[[bytes], bytes], envelope: bytes) -> Sequence[bytes]:
        """The envelopes that it announces instead of the one of its update."""
