"""`Swarm`: what a script holds while it is attached; in its `step`, updates are merged and rounds end. See `join`."""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from learnae import protocol
from learnae.errors import ConfigError, DaemonError, LayoutError, LearnaeError, TrainerError
from learnae.genesis import Genesis
from learnae.loop.daemon import LocalDaemon
from learnae.loop.session import Session
from learnae.loop.statistics import SwarmStatistics
from learnae.loop.weights import LiveWeights
from learnae.trainer.restraint import let_go, means_memory

Evaluate = Callable[[nn.Module], Mapping[str, float]]

_HAND_IN_SECONDS = 15.0
_ABANDON_SECONDS = 2.0
_SETTLE_SECONDS = 60.0
_SETTLE_SLOTS = 4

log = logging.getLogger("learnae")


class Swarm:
    """The swarm, as the script sees it. A context manager; `start` and `close` are its two halves.

    Not safe to use from two threads at once. Made by `learnae.join`, which says what the arguments mean.
    """

    def __init__(
        self,
        weights: LiveWeights,
        topic: str,
        daemon: LocalDaemon,
        genesis: Genesis,
        evaluate: Evaluate | None = None,
        *,
        resumes: bool = True,
    ) -> None:
        self.topic = topic
        self._weights = weights
        self._daemon = daemon
        self._genesis = genesis
        self._evaluator = evaluate
        evaluator = None if evaluate is None else lambda averaged: self.evaluate(averaged=averaged)
        self._session = Session(weights, topic, daemon, genesis, evaluator, resumes=resumes)
        self._started = self._closed = False

    # --- what the script uses

    @property
    def steps(self) -> int:
        """Own steps so far, those before a restart too: where to go on in the data."""
        return self._weights.steps

    @property
    def samples(self) -> int:
        """Own samples so far, those before a restart too."""
        return self._weights.samples

    @property
    def rounds(self) -> int:
        """Own rounds that were handed in."""
        return self._session.rounds.books.rounds

    @property
    def samples_seen(self) -> int:
        """Samples behind the swarm's weights: what a schedule should count, so that everybody is in phase."""
        return self._weights.samples_seen

    @property
    def attached(self) -> bool:
        """Whether a daemon is there; without one, training goes on alone until it is back."""
        return self._session.link is not None

    @property
    def finished(self) -> bool:
        """The node was told to finish, and has handed in its last round: `step` returns False."""
        return self._session.finished

    @property
    def peers(self) -> list[dict[str, Any]]:
        """Everybody on the topic that the daemon knows of, as `GET /api/peers` has them. Raises DaemonError."""
        found: list[dict[str, Any]] = self._daemon.status("/api/peers")
        return found

    def step(self, samples: int = 1, loss: torch.Tensor | float | None = None) -> bool:
        """To be called after each optimiser step: merges what has come, and ends rounds.

        Takes a few microseconds when there is nothing to do, and up to 4 ms, or a tenth of a step if that is more,
        when there is. While the node is paused, and where ``round_steps`` are done before a slot is over, it waits.

        Args:
            samples: in the batch, or in all batches of an accumulated gradient.
            loss: of the step, a number or a tensor with one; it is looked at when the round ends, so that a GPU need
                not be waited for. A round with a loss that is not finite is dropped.

        Returns:
            Whether to go on; False once the node was told to finish and its last round is handed in.

        Raises:
            LayoutError: the model's parameters have changed.
            TrainerError: the daemon has told the script to end, or it was never started.
        """
        self._weights.note(samples, loss)
        now = time.monotonic()
        session = self._session
        if now < session.due and not session.busy:
            session.last = now
            return not session.finished
        if not self._started or self._closed:
            raise TrainerError(
                "swarm.step was called outside of the block: write `with learnae.join(...) as swarm:` around the loop",
                code="trainer-protocol",
            )
        session.attend(now)
        return not session.finished

    def evaluate(self, function: Evaluate | None = None, *, averaged: bool = False) -> dict[str, float]:
        """Figures of the swarm's weights, exact or as their running average; the model's own are left as they are.

        Args:
            function: what to call with the model, in evaluation mode; None: what was given to `join`.
            averaged: the running average over about three rounds, which is usually better.
        """
        function = function or self._evaluator
        if function is None:
            raise ConfigError(
                "there is nothing to evaluate with: give a function here, or as `evaluate` to learnae.join",
                code="missing-setting",
            )
        with self._weights.swarm_weights(averaged) as model:
            return {name: float(value) for name, value in function(model).items()}

    def snapshot(self, *, averaged: bool = False) -> dict[str, torch.Tensor]:
        """The swarm's weights, exact or as their running average, as a state dict on the CPU.

        What is not shared, such as BatchNorm's statistics and frozen parameters, is this node's own.
        """
        with self._weights.swarm_weights(averaged) as model:
            return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}

    def statistics(self) -> SwarmStatistics:
        """Figures of this script's part."""
        found, session = self._weights.statistics(), self._session
        return SwarmStatistics(
            attached=self.attached,
            mode=session.mode,
            rounds=session.rounds.books.rounds,
            steps=found.steps,
            samples=found.samples,
            samples_seen=found.samples_seen,
            applied=found.applied,
            void=found.void,
            share=session.rounds.share,
            dropped=session.rounds.dropped,
            merging=session.merging,
            longest=session.longest,
            headroom=found.headroom,
        )

    # --- coming and going

    def start(self) -> Self:
        """Attach, starting a daemon if there is none, and wait until the model has the swarm's weights.

        Raises:
            DaemonError: no daemon can be started, or it does not answer.
            TrainerError: the daemon serves another script, or does not want this one.
        """
        session = self._session
        try:
            session.attach(self._daemon.attach())
            self._started = True
            told = time.monotonic() + 5.0
            while session.mode in ("pause", "alone"):
                if session.link is None:
                    session.wait_for_daemon()
                session.turn(math.inf, 0.1)
                if time.monotonic() > told:
                    told = math.inf
                    log.warning("waiting for the swarm's weights, or for `learnae resume`: see `learnae status`")
            session.wait_while_told()
        except BaseException as error:
            self.close(error)
            raise
        session.last = time.monotonic()
        return self

    def close(self, error: BaseException | None = None) -> None:
        """Leave: hand in the last round, and let the daemon settle if it was started here. Then the model has the
        swarm's weights. After an error, only the state is saved, and the user told."""
        if self._closed:
            return
        self._closed = self._session.leaving = True
        clean = error is None
        try:
            if self._session.link is not None and self._started:
                if error is None:
                    self._leave()
                else:
                    self._abandon(error)
            elif self._started and error is None:
                self._session.save(wait=True)
        except BaseException:
            clean = False
            raise
        finally:
            self._session.close()
            self._daemon.end(wait=clean)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(error)

    def _leave(self) -> None:
        session = self._session
        if self._daemon.own and not session.finished:
            session.send(protocol.Leave())
        patience = _SETTLE_SECONDS + _SETTLE_SLOTS * self._genesis.slot_seconds
        deadline = time.monotonic() + (patience if self._daemon.own else _HAND_IN_SECONDS)
        while session.link is not None and not session.stopped and time.monotonic() < deadline:
            if not self._daemon.own:
                if session.finished:
                    break
                if self._weights.round_steps and not self._weights.closed and session.mode == "train":
                    self._weights.finish_work()
                    session.rounds.close_round()
                if not self._weights.closed and self._weights.idle:
                    break
            session.turn(math.inf, 0.05)
        if self._weights.closed:
            log.warning("the last round was not stored in time; it is not part of the swarm's weights")
        session.save(wait=True)
        if session.link is not None or session.stopped:
            self._weights.finish_work()
            self._weights.adopt()

    def _abandon(self, error: BaseException) -> None:
        """The script has failed, or was interrupted."""
        session = self._session
        let_go()  # to be able to say that the bound on memory was reached
        memory = any(means_memory(cause) for cause in _causes(error))
        if memory:
            text = "training needed more memory than it may have"
            session.send(protocol.Failed(text, "", fatal=False, memory=True))
        elif isinstance(error, Exception) and not isinstance(error, TrainerError | DaemonError):
            trace = "".join(traceback.format_exception(error))
            code = error.code if isinstance(error, LearnaeError) else "task-failed"
            text = str(error) if isinstance(error, LearnaeError) else f"the script failed with {_words(error)}"
            session.send(protocol.Failed(text, trace, fatal=False, code=code))
        if not memory and not isinstance(error, LayoutError):
            # A round that is on its way is waited for: the state cannot be kept without knowing of it.
            deadline = time.monotonic() + _ABANDON_SECONDS
            with suppress(LearnaeError):
                while self._weights.closed and session.link is not None and time.monotonic() < deadline:
                    session.turn(math.inf, 0.05)
            session.save(wait=True)


def _causes(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
