"""How long other programs have let the processor rest, by its counters: no input, no output; used by `sensors`."""

from __future__ import annotations

BUSY = 0.25
"""Part of all cores that other programs may use in an idle PC: background services do, a browser in use does more."""
_WINDOW = 10.0
"""Seconds over which load is averaged at least: short bursts are nobody at work."""


class Quiet:
    """Takes looks at the counters of CPU time and knows since when the load by others is low."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self._since: float | None = None

    def look(self, now: float, others: float, cores: int) -> float:
        """Seconds for which it has been quiet; 0 where it is not, or that is not known yet.

        Args:
            now: seconds of a clock that does not go back.
            others: CPU seconds that everything but this node has used so far.
            cores: of the PC.
        """
        if self._last is None:
            self._last = (now, others)
        then, used = self._last
        if now - then >= _WINDOW:
            quiet = (others - used) / ((now - then) * cores) < BUSY
            self._since = (then if self._since is None else self._since) if quiet else None
            self._last = (now, others)
        return now - self._since if self._since is not None else 0.0
