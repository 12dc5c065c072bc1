"""How training went over the last days, in memory, the finer the more recent; kept by the node, shown by the API."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

TIERS: Final = ((5.0, 360), (60.0, 720), (600.0, 2016))
"""(seconds between rows, most rows): half an hour, half a day, two weeks; about a megabyte in all."""


@dataclass(frozen=True, slots=True)
class Row:
    """The node at one moment; None is "not known". The bytes are those since the daemon's start."""

    time: float
    slot: int | None
    loss: float | None
    accuracy: float | None
    accuracy_averaged: float | None
    updates: int
    members: int
    bytes_sent: int
    bytes_received: int
    steps_per_second: float
    share: float
    state: str

    @classmethod
    def of(cls, status: Mapping[str, Any], now: float) -> Row:
        """The row that this status makes. `now`: Unix time in seconds."""
        trainer, network = status.get("trainer") or {}, status.get("network") or {}
        return cls(
            time=round(now, 3),
            slot=status.get("slot"),
            loss=trainer.get("loss"),
            accuracy=trainer.get("accuracy"),
            accuracy_averaged=trainer.get("accuracy_averaged"),
            updates=(status.get("ledger") or {}).get("updates", 0),
            members=status.get("members", 0),
            bytes_sent=network.get("bytes_sent", 0),
            bytes_received=network.get("bytes_received", 0),
            steps_per_second=trainer.get("steps_per_second", 0.0),
            share=status.get("share", 0.0),
            state=str(status.get("state", "unknown")),
        )


class History:
    """Rows in rings of different step: what leaves the finest one is still in the coarser ones."""

    def __init__(self) -> None:
        self._rings: list[deque[Row]] = [deque(maxlen=most) for _, most in TIERS]

    @property
    def every(self) -> float:
        """Seconds between the most recent rows."""
        return TIERS[0][0]

    def add(self, row: Row) -> None:
        """Take in what is the newest row now. If the clock was set back, the rows after it are forgotten."""
        for (every, _), ring in zip(TIERS, self._rings, strict=True):
            while ring and ring[-1].time >= row.time:
                ring.pop()
            # A look comes a little early or late: half a step decides.
            if not ring or row.time - ring[-1].time >= every - TIERS[0][0] / 2:
                ring.append(row)

    def rows(self, since: float = 0.0) -> list[Row]:
        """The rows after the moment `since`, oldest first; each moment in the finest step that is left of it."""
        found = list(self._rings[0])
        for finer, coarser in pairwise(self._rings):
            begin = finer[0].time if finer else float("inf")
            begin = min(begin, found[0].time) if found else begin
            found = [row for row in coarser if row.time < begin] + found
        return [row for row in found if row.time > since]
