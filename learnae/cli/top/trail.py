"""What `top` draws over time: accuracy, loss and traffic of the last half hour; fed by history and status."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

STEP: Final = 5.0
"""Seconds between two points, as in the most recent part of a daemon's history."""
SPAN: Final = 1800.0
"""Seconds that are drawn."""
_POINTS: Final = int(SPAN / STEP)
_LEAST: Final = 1.5
"""Seconds over which a rate is taken at least; shorter ones jump about."""


class Trail:
    """Points of one daemon, in memory; times are Unix times in seconds."""

    def __init__(self) -> None:
        self.accuracy: deque[float] = deque(maxlen=_POINTS)
        self.loss: deque[float] = deque(maxlen=_POINTS)
        self.traffic: deque[float] = deque(maxlen=_POINTS)
        self.sent: float | None = None
        """Bytes per second now; None if not known yet."""
        self.received: float | None = None
        self._last = -STEP
        self._counted: tuple[float, float, float] | None = None

    def begin(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take in the daemon's own history, oldest row first."""
        for row in rows:
            self._count(_number(row, "time") or 0.0, row)
            self._point(_number(row, "time") or 0.0, row)

    def add(self, status: Mapping[str, Any], now: float) -> None:
        """Take in what the status says now."""
        trainer, network = (status.get(part) or {} for part in ("trainer", "network"))
        row = {**{key: trainer.get(key) for key in ("loss", "accuracy")}, **network}
        self._count(now, row)
        self._point(now, row)

    def _count(self, now: float, row: Mapping[str, Any]) -> None:
        sent, received = _number(row, "bytes_sent"), _number(row, "bytes_received")
        if sent is None or received is None:
            return
        if self._counted is not None:
            then, sent_then, received_then = self._counted
            if sent < sent_then or received < received_then:
                self._counted = None  # It was started anew, and counts from zero.
            elif now - then < _LEAST:
                return
            else:
                self.sent, self.received = (sent - sent_then) / (now - then), (received - received_then) / (now - then)
        self._counted = (now, sent, received)

    def _point(self, now: float, row: Mapping[str, Any]) -> None:
        # A clock that was set back must not stop the drawing.
        if 0 <= now - self._last < STEP * 0.9:
            return
        self._last = now
        for name, points in (("accuracy", self.accuracy), ("loss", self.loss)):
            if (value := _number(row, name)) is not None:
                points.append(value)
        if self.sent is not None and self.received is not None:
            self.traffic.append(self.sent + self.received)


def _number(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
