"""Genesis: what the nodes of a swarm must have in common to add each other's updates; its hash names the swarm."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from learnae import cbor, schema
from learnae.errors import WireError
from learnae.layout import Layout
from learnae.rules import DEFAULT, Rules

_EXPONENT = schema.integer(-120, 120)


@dataclass(frozen=True)
class Genesis:
    """The start of a swarm's model and the rhythm of its rounds.

    Every node makes it from its own task, whose model is initialised from a fixed seed; equal tasks therefore make
    equal swarms without any negotiation.
    """

    layout: Layout
    exponents: tuple[int, ...]
    """For each tensor the e of its unit 2**e, in which the replica counts."""
    weights: bytes
    """CID of the snapshot of the initial replica (`learnae.snapshot`)."""
    slot_seconds: float
    round_steps: int | None
    """Most local steps in a slot; None trains through the whole slot."""
    rules: Rules = DEFAULT
    """What all nodes apply alike to each other's updates."""

    def swarm_id(self, topic: str) -> bytes:
        """The 32 bytes that name the swarm of this genesis on `topic`."""
        return hashlib.sha256(b"learnae/1 swarm\0" + cbor.encode([topic, *self.to_wire()])).digest()

    def differences(self, other: Genesis) -> list[str]:
        """What keeps this node and another apart, a line each, for people."""
        lines = self.layout.differences(other.layout)
        if not lines and self.weights != other.weights:
            lines.append(
                "the same tensors start from other weights: another seed, or a torch that initialises differently"
            )
        if self.slot_seconds != other.slot_seconds:
            lines.append(f"slot length: here {self.slot_seconds:g} s, there {other.slot_seconds:g} s")
        if self.round_steps != other.round_steps:
            lines.append(f"steps in a round: here {_steps(self.round_steps)}, there {_steps(other.round_steps)}")
        if self.rules != other.rules:
            lines.append(f"rules: here {self.rules}, there {other.rules}")
        if not lines and self.exponents != other.exponents:
            lines.append("the units of the replica differ")
        return lines

    def differs_only_in_weights(self, other: Genesis) -> bool:
        """Whether a node of one can go over to the other: the same model and rhythm from other initial weights."""
        return replace(self, exponents=other.exponents, weights=other.weights) == other

    def to_wire(self) -> list[Any]:
        """Plain CBOR values."""
        return [
            self.layout.to_wire(),
            list(self.exponents),
            self.weights,
            self.slot_seconds,
            self.round_steps,
            self.rules.to_wire(),
        ]

    @classmethod
    def from_wire(cls, value: Any) -> Genesis:
        """The genesis in decoded CBOR.

        Raises:
            WireError: a field breaks the format or a bound.
        """
        layout, exponents, weights, slot_seconds, round_steps, rules = schema.record(
            value,
            Layout.from_wire,
            schema.sequence(_EXPONENT, 100_000),
            schema.cid,
            schema.number(0.05, 86_400.0),
            schema.optional(schema.integer(1)),
            Rules.from_wire,
        )
        if len(exponents) != len(layout.tensors):
            raise WireError("a genesis has one unit for each tensor")
        return cls(layout, exponents, weights, slot_seconds, round_steps, rules)


def _steps(count: int | None) -> str:
    return "as many as fit" if count is None else str(count)
