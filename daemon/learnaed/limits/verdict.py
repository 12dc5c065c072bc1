"""Why a node does not train now, from its limits and the state of the PC: a pure function; used by `warden`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo
from enum import StrEnum
from typing import Any

from learnae.limits import Limits


class Cause(StrEnum):
    """What keeps a node from training."""

    USER = "user"
    HOURS = "hours"
    BUSY = "busy"
    BATTERY = "battery"
    MEMORY = "memory"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that keeps a node from training, for people, and until when (Unix time), if that is known."""

    cause: Cause
    text: str
    until: float | None = None

    def as_json(self) -> dict[str, Any]:
        """As the status has it."""
        return {"reason": self.cause.value, "text": self.text, "until": self.until}


@dataclass(frozen=True, slots=True)
class Hold:
    """Somebody or something holds the node still: until a moment (Unix time), or until that is taken back."""

    text: str
    until: float | None = None

    def over(self, now: float) -> bool:
        """Whether its time has come."""
        return self.until is not None and now >= self.until


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the PC is. None: that cannot be told here."""

    idle: float | None = None
    """Seconds since somebody used it."""
    idle_by: str = "input"
    """How that is known: by "input", or by the "load" of other programs."""
    on_battery: bool | None = None
    disk_used: int = 0
    """Bytes of all the node's files: snapshots, database, logs, the trainer's state."""


def verdict(
    limits: Limits,
    conditions: Conditions,
    now: float,
    *,
    user: Hold | None = None,
    memory: Hold | None = None,
    zone: tzinfo | None = None,
) -> tuple[Reason, ...]:
    """Everything that keeps the node from training at this moment; empty: it may train.

    Args:
        limits: what the user lets it use.
        conditions: how the PC is.
        now: Unix time.
        user: the user has paused it.
        memory: it needed more memory than it may have, a short while ago.
        zone: of `limits.hours`; None is that of this PC.
    """
    reasons = []
    for cause, hold in ((Cause.USER, user), (Cause.MEMORY, memory)):
        if hold is not None and not hold.over(now):
            reasons.append(Reason(cause, hold.text, hold.until))
    if limits.hours is not None and not limits.hours.open(now, zone):
        text = f"it trains only in the hours {limits.hours}"
        reasons.append(Reason(Cause.HOURS, text, limits.hours.opens(now, zone)))
    if limits.on_battery == "pause" and conditions.on_battery:
        reasons.append(Reason(Cause.BATTERY, "the PC runs on its battery"))
    if limits.idle_after is not None and conditions.idle is not None and conditions.idle < limits.idle_after:
        who = "somebody uses the PC" if conditions.idle_by == "input" else "other programs use the processor"
        text = f"{who}; it trains after {limits.texts()['idle_after']} without"
        reasons.append(Reason(Cause.BUSY, text, now + limits.idle_after - conditions.idle))
    if limits.disk is not None and conditions.disk_used > limits.disk:
        text = (
            f"its files take {conditions.disk_used / 1e6:.0f} MB of the disk, where {limits.texts()['disk']} are "
            "allowed: unpin snapshots, or raise the limit disk"
        )
        reasons.append(Reason(Cause.DISK, text))
    return tuple(reasons)
