"""Where the trainer's time goes, and what follows from it: the length of rounds, rates, budgets; used by trainers."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

Clock = Callable[[], float]
Activity = Literal["training", "exchange", "idle"]

MOST_SLOTS = 16
"""Slots of the longest round."""
_TRAINING_PER_EXCHANGE = 4.0
_NEWEST = 0.3
"""Weight of the newest round in the mean exchange time: one slow checkpoint alone does not make rounds longer."""
_SLACK = 0.9
"""Rounds become shorter only if the exchange would fill less than this part of what the shorter ones allow."""


class Spent(NamedTuple):
    """Seconds spent in local steps, in everything that exchange needs, and in waiting."""

    training: float = 0.0
    exchange: float = 0.0
    idle: float = 0.0


class Meter:
    """Measures what time is spent in; one activity at a time, the innermost."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or time.monotonic
        self._activity: Activity = "idle"
        self._since = self._clock()
        self._seconds: dict[Activity, float] = {"training": 0.0, "exchange": 0.0, "idle": 0.0}

    @contextmanager
    def spend(self, activity: Activity) -> Iterator[None]:
        """What is done inside counts as this activity."""
        outer = self._switch(activity)
        try:
            yield
        finally:
            self._switch(outer)

    def take(self) -> Spent:
        """What was spent since the last take."""
        self._switch(self._activity)
        spent = Spent(**self._seconds)
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        return spent

    def _switch(self, activity: Activity) -> Activity:
        now, outer = self._clock(), self._activity
        self._seconds[outer] += now - self._since
        self._activity, self._since = activity, now
        return outer


class Pace:
    """How many slots a round spans: as few as leave training four times the time that the exchange takes.

    The exchange is all that a round needs besides its local steps: encoding, handing in, adding the updates of others,
    evaluation, checkpoint. Rounds of more than one slot end together with everybody else's of that length.
    """

    def __init__(self, slot_seconds: float) -> None:
        self.slots = 1
        self._slot_seconds = slot_seconds
        self._exchange = 0.0

    def note(self, exchange_seconds: float) -> None:
        """A round is over whose exchange took this long."""
        # Beyond what the longest round has room for, more is no reason for anything: a full disk was waited for, say.
        most = MOST_SLOTS * self._slot_seconds / (1.0 + _TRAINING_PER_EXCHANGE)
        self._exchange += _NEWEST * (min(exchange_seconds, most) - self._exchange)
        needed = (1.0 + _TRAINING_PER_EXCHANGE) * self._exchange / self._slot_seconds
        if needed > self.slots or needed < _SLACK * (self.slots - 1):
            self.slots = min(max(math.ceil(needed), 1), MOST_SLOTS)

    def last_slot(self, first: int) -> int:
        """The last slot of a round that starts in slot `first`."""
        return first + -(first + 1) % self.slots


class Rate:
    """Steps and samples per second over the last ten seconds or so."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or time.monotonic
        self._started = self._clock()
        self._steps = 0
        self._samples = 0
        self._seen = 0
        self._last = (0.0, 0.0)

    def add(self, round_samples: int) -> None:
        """A step was done; `round_samples` counts from the round's start."""
        self._samples += round_samples - self._seen if round_samples >= self._seen else round_samples
        self._seen = round_samples
        self._steps += 1

    def _measure(self) -> tuple[float, float]:
        elapsed = self._clock() - self._started
        if elapsed >= 10.0 or not any(self._last):
            self._last = (self._samples / max(elapsed, 1e-3), self._steps / max(elapsed, 1e-3))
        if elapsed >= 10.0:
            self._started, self._steps, self._samples = self._clock(), 0, 0
        return self._last

    def samples_per_second(self) -> float:
        """Training samples per second."""
        return self._measure()[0]

    def steps_per_second(self) -> float:
        """Local steps per second."""
        return self._measure()[1]


class Budget:
    """Keeps an activity to a part of the time: after a run of t seconds it rests for t / part, or up to twice as long.

    The jitter sees to it that the nodes of a swarm, several of which may be on one PC, do not all do it at once.
    """

    def __init__(self, part: float, jitter: random.Random, clock: Clock | None = None) -> None:
        self._part = part
        self._jitter = jitter
        self._clock = clock or time.monotonic
        self._next = 0.0
        self._began = 0.0

    def allows(self) -> bool:
        """Whether it is time again."""
        return self._clock() >= self._next

    def __enter__(self) -> None:
        self._began = self._clock()

    def __exit__(self, *_: object) -> None:
        self.rest(self._clock() - self._began)

    def rest(self, seconds: float) -> None:
        """A run of so many seconds is over."""
        self._next = self._clock() + seconds / self._part * self._jitter.uniform(1.0, 2.0)
