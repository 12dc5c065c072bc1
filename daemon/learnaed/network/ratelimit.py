"""Token buckets per key; used by pubsub, per peer and topic."""

from __future__ import annotations

from collections.abc import Hashable

_MAX_KEYS = 4096


class RateLimiter:
    """Allows `rate` events per second and key on average, and bursts of `rate * burst_seconds`."""

    def __init__(self, rate: float, burst_seconds: float) -> None:
        self._rate = rate
        self._burst = rate * burst_seconds
        self._buckets: dict[Hashable, tuple[float, float]] = {}

    def allow(self, key: Hashable, now: float) -> bool:
        """Whether one more event of `key` is within its rate at time `now` (seconds, any origin)."""
        level, then = self._buckets.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._rate)
        allowed = level >= 1.0
        # Re-inserted at the end: the first key is the one not heard for longest.
        self._buckets[key] = (level - 1.0 if allowed else level, now)
        if len(self._buckets) > _MAX_KEYS:
            del self._buckets[next(iter(self._buckets))]
        return allowed
