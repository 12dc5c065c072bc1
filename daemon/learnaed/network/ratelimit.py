"""Token buckets per key; used by pubsub, per peer and topic, and by Bitswap, per peer."""

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
        self._keep(key, level - 1.0 if allowed else level, now)
        return allowed

    def delay(self, key: Hashable, events: int, now: float) -> float:
        """Count `events` of `key` at time `now`, all at once, and return for how many seconds it must be ignored."""
        level, then = self._buckets.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._rate) - events
        self._keep(key, level, now)
        return max(0.0, -level / self._rate)

    def _keep(self, key: Hashable, level: float, now: float) -> None:
        # Re-inserted at the end: the first key is the one not heard for longest.
        self._buckets[key] = (level, now)
        if len(self._buckets) > _MAX_KEYS:
            del self._buckets[next(iter(self._buckets))]
