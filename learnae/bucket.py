"""A token bucket, as a rule without a clock: for bytes of the network and for CPU seconds of the trainer."""

from __future__ import annotations

_EXACT = 1e-6
"""What is missing less than this is not waited for: floats would make it an endless series of tiny waits."""


class Bucket:
    """Gives `rate` a second and holds `burst` at most, so in t seconds never more than `rate * t + burst`.

    A single amount above `burst` is given once the bucket is full, and what it was too large is owed.

    Args:
        rate: units per second; more than 0.
        burst: units that may be taken at once after a rest. Larger is smoother for the taker, and coarser.
        now: seconds of any clock; a clock that goes back counts as standing still.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._level = burst
        self._then = now

    def level(self, now: float) -> float:
        """Units in it; below 0 where some are owed."""
        self._level = min(self.burst, self._level + max(0.0, now - self._then) * self.rate)
        self._then = now
        return self._level

    def delay(self, amount: float, now: float, keep: float = 0.0) -> float:
        """Seconds until `amount` can be taken so that `keep` is left, if nobody takes anything before; 0: now."""
        missing = min(amount + keep, self.burst) - self.level(now)
        return missing / self.rate if missing > _EXACT else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take it, whether it is there or not: whoever may wait asks for the `delay` first."""
        self._level = self.level(now) - amount
