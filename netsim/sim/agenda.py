"""The virtual clock: what is due when, in an order that does not depend on chance; used by everything simulated."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable
from typing import Any


class Agenda:
    """Calls to be made, each at its moment. Those of one moment are made in the order in which they were asked for.

    Args:
        seed: of all random draws of the run.
    """

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        """Seconds since the start of the run."""
        self.calls = 0
        """Made so far."""
        self._seed = seed
        self._order = 0
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []

    def at(self, time: float, call: Callable[..., object], *arguments: Any) -> None:
        """Make this call at that moment, or now if it has passed."""
        self._order += 1
        heapq.heappush(self._heap, (time if time > self.now else self.now, self._order, call, arguments))

    def after(self, delay: float, call: Callable[..., object], *arguments: Any) -> None:
        """Make this call so many seconds from now."""
        self.at(self.now + delay, call, *arguments)

    def run(self, until: float) -> None:
        """Make all calls that are due up to this moment, and go there."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until:
            self.now, _, call, arguments = pop(heap)
            self.calls += 1
            call(*arguments)
        self.now = max(self.now, until)

    def stream(self, name: str) -> random.Random:
        """Random numbers of this name's own: another name more or less in a run does not change what it draws."""
        return random.Random(hashlib.sha256(f"{self._seed} {name}".encode()).digest())
