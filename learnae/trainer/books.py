"""What the trainer's replica consists of: which updates, in which part, above which cut; kept by the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from learnae.protocol import RoundDone
from learnae.weights import Round

UpdateKey = tuple[bytes, int, bytes]
"""Author, number and digest: an author may have signed two updates under one number."""


class Applied(NamedTuple):
    """How an update is in the replica: its slot, the ratio by which it counts, and whether it is void."""

    slot: int
    ratio: int
    void: bool = False


@dataclass(slots=True)
class Books:
    """What is kept beside the learner's own state."""

    base: bytes | None = None
    """The cut below `applied`; None is the task's own genesis."""
    total: bytes = bytes(32)
    """Sum of the digests of the updates in that cut."""
    applied: dict[UpdateKey, Applied] = field(default_factory=dict)
    own_seq: int = 0
    """The highest own number that is or was in a replica here."""
    rounds: int = 0
    outbox: RoundDone | None = None
    """An encoded round that the daemon has not accepted yet. It is handed in again after a restart; the daemon
    recognises it if it had been stored, so that it counts exactly once."""

    def close(self, round_: Round, share: float, loads: int) -> RoundDone:
        """A round is encoded: put what the daemon is to be told of it into the outbox, and return it."""
        self.rounds += 1
        self.outbox = RoundDone(
            parts=round_.parts,
            samples=round_.samples,
            share=share,
            norm=round_.norm,
            loss=round_.loss,
            after=self.own_seq,
            loads=loads,
        )
        return self.outbox

    def rows(self) -> list[list[Any]]:
        """The applied updates as `protocol.Hello` carries them."""
        return [[*key, row.slot, row.ratio] for key, row in self.applied.items()]

    def stand_on(self, base: bytes | None, total: bytes, slot: int | None = None) -> None:
        """The replica stands on this cut from now on, which holds all updates up to this slot, or simply all."""
        self.base, self.total = base, total
        self.applied = {key: row for key, row in self.applied.items() if slot is not None and row.slot > slot}

    def to_wire(self) -> list[Any]:
        """Plain CBOR values."""
        outbox = self.outbox and [getattr(self.outbox, name) for name in RoundDone.__slots__]
        applied = [[*key, *row] for key, row in self.applied.items()]
        return [self.base, self.total, applied, self.own_seq, self.rounds, outbox]

    @classmethod
    def from_wire(cls, value: Any) -> Books:
        """The books of `to_wire`; any exception means that `value` is something else."""
        base, total, applied, own_seq, rounds, outbox = value
        rows = {(author, seq, digest): Applied(*row) for author, seq, digest, *row in applied}
        return cls(base, total, rows, own_seq, rounds, outbox and RoundDone(*outbox))
