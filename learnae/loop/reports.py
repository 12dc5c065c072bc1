"""`Reports`: how the script's part goes, told to the daemon about once a second; used by `Session`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import nullcontext

from learnae import protocol
from learnae.loop.rounds import Rounds
from learnae.loop.survey import Survey
from learnae.loop.weights import LiveWeights
from learnae.trainer.pace import Budget

EVERY = 1.0
"""Seconds between two reports."""
_EVALUATING = 0.05
"""Most of the time that evaluations may take, and figures of the replica."""
_FIGURING = 0.005
_SURVEY_SECONDS = 3e-9
"""What a survey takes, for each weight."""
_RATE_SECONDS = 10.0

Figures = dict[str, float]


class Reports:
    """Gathers the figures and sends them.

    Args:
        evaluate: gives figures of the swarm's weights, exact (False) or as their running average (True); or None.
        jitter: see `Budget`.
    """

    def __init__(
        self,
        weights: LiveWeights,
        rounds: Rounds,
        slot_seconds: float,
        evaluate: Callable[[bool], Figures] | None,
        send: Callable[[protocol.TrainerMessage], None],
        jitter: random.Random,
    ) -> None:
        self.due = 0.0
        """When the next one is to be sent."""
        self._weights = weights
        self._rounds = rounds
        self._slot_seconds = slot_seconds
        self._evaluator = evaluate
        self._send = send
        self._evaluations, self._figures = Budget(_EVALUATING, jitter), Budget(_FIGURING, jitter)
        self._metrics: Figures = {}
        self._averaged: Figures = {}
        self._survey: Survey | None = None
        self._known: tuple[bytes, list[str]] = (b"", [])
        self._rates = (time.monotonic(), 0, 0, 0.0, 0.0)

    def evaluate(self, *, thrifty: bool = False) -> None:
        """Evaluate the swarm's weights, if there is something to do it with; ``thrifty``: not too often."""
        if self._evaluator is None or (thrifty and not self._evaluations.allows()):
            return
        with self._evaluations if thrifty else nullcontext():
            self._metrics, self._averaged = self._evaluator(False), self._evaluator(True)

    def send(self, *, final: bool = False) -> None:
        """Tell how it goes; ``final``: with figures of what the replica is now."""
        now = time.monotonic()
        self.due = now + EVERY
        weights, pace = self._weights, self._rounds.pace
        if self._survey is not None and self._survey.digest:
            self._known = self._survey.digest, self._survey.alarms
        if final or not self._known[0]:
            self._known = weights.replica.digest(), weights.replica.alarms()
            self._survey = None
        elif self._figures.allows() and weights.idle:
            self._survey = weights.survey_later()
            self._figures.rest(_SURVEY_SECONDS * weights.layout.size)
        samples, steps = self._rate(now)
        self._send(
            protocol.Report(
                rounds=self._rounds.books.rounds,
                steps=weights.steps,
                samples=weights.samples,
                samples_per_second=samples,
                steps_per_second=steps,
                loss=weights.mean_loss,
                metrics=self._metrics,
                averaged=self._averaged,
                digest=self._known[0],
                alarms=self._known[1],
                training_seconds=pace.slots * self._slot_seconds - self._rounds.exchange,
                exchange_seconds=self._rounds.exchange,
                slots_per_round=pace.slots,
                final=final,
            )
        )

    def _rate(self, now: float) -> tuple[float, float]:
        """Samples and steps per second, over the last ten seconds or so."""
        since, samples, steps, *known = self._rates
        elapsed = max(now - since, 1e-3)
        if elapsed < _RATE_SECONDS and any(known):
            return known[0], known[1]
        rates = (self._weights.samples - samples) / elapsed, (self._weights.steps - steps) / elapsed
        if elapsed >= _RATE_SECONDS or not any(known):
            self._rates = now, self._weights.samples, self._weights.steps, *rates
        return rates
