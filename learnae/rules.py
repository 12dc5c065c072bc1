"""The rules that all nodes of a swarm apply alike, fixed at its genesis; used by the ledger, set by tasks."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any, Final

from learnae import schema
from learnae.errors import ConfigError, WireError

FULL: Final = 65536
"""The ratio at which an update counts as a whole; half of it halves what the update adds."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a swarm cuts its history and bounds what one update may do. Raises `ConfigError` for values out of range."""

    cut_slots: int = 8
    """Slots from one cut to the next. More: fewer snapshots and attestations; a joiner replays a longer tail."""
    window: int = 4
    """Intervals between cuts over which the authors, the median norm and the fair share are taken. More: a partition
    may last longer and still heal as a sum, and a swarm that has lost half of its nodes settles later."""
    staleness: int = 8
    """How many cuts may lie between an update and its base; more than `window`, or a swarm whose cuts settle late
    would refuse its own updates."""
    clip: float = 1.25
    """An update moves the model at most this times the median norm of the window before; infinity: no bound. Less
    leaves attackers less, and takes from honest updates that are larger than most."""
    fair_share: float = 2.0
    """An update counts for at most this times the fair share, one over the authors of an interval."""

    def __post_init__(self) -> None:
        if not (
            1 <= self.cut_slots <= 10_000
            and 1 <= self.window < self.staleness <= 100
            and self.clip >= 0.1
            and self.fair_share >= 1
        ):
            raise ConfigError(
                f"{self} is out of range: cut_slots 1 to 10000, window from 1 and below staleness, staleness up to "
                "100, clip from 0.1, fair_share from 1",
                code="task-rules",
            )

    def interval(self, slot: int) -> int:
        """The interval that this slot belongs to; cut i holds everything up to the end of interval i."""
        return slot // self.cut_slots

    def last_slot(self, interval: int) -> int:
        """The last slot of an interval."""
        return (interval + 1) * self.cut_slots - 1

    def to_wire(self) -> list[Any]:
        """Plain CBOR values; 0 stands for an infinite clip."""
        *rest, clip, fair = astuple(self)
        return [*rest, 0.0 if clip == float("inf") else clip, fair]

    @classmethod
    def from_wire(cls, value: Any) -> Rules:
        """The rules in decoded CBOR.

        Raises:
            WireError: a field breaks the format or a bound.
        """
        cut_slots, window, staleness, clip, fair = schema.record(
            value,
            schema.integer(1, 10_000),
            schema.integer(1, 99),
            schema.integer(2, 100),
            schema.number(0.0, 1e6),
            schema.number(1.0, 1e6),
        )
        try:
            return cls(cut_slots, window, staleness, clip or float("inf"), fair)
        except ConfigError as error:
            raise WireError(str(error)) from error


DEFAULT: Final = Rules()
