"""`Swarm`: what a script holds while it is attached; in its `step`, updates are merged and rounds end. See `join`."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from learnae import protocol, snapshot
from learnae.blocks import Blocks
from learnae.errors import (
    ConfigError,
    DaemonError,
    LayoutError,
    LearnaeError,
    LearnerError,
    StoreError,
    TrainerError,
    coded,
)
from learnae.genesis import Genesis
from learnae.loop.daemon import LocalDaemon
from learnae.loop.link import Link
from learnae.loop.origin import Start
from learnae.loop.weights import LiveWeights
from learnae.replica import Replica
from learnae.trainer.books import Books
from learnae.trainer.checkpoint import load_checkpoint, set_aside, write_checkpoint
from learnae.trainer.pace import Budget, Pace
from learnae.trainer.restraint import Restraint, let_go, means_memory
from learnae.trainer.updates import Updates
from learnae.weights import Round

Evaluate = Callable[[nn.Module], Mapping[str, float]]

_SLICE_SECONDS = 0.004
"""Most time that a step spends on merging, if steps are short; else `_SLICE_PART` of a step."""
_SLICE_PART = 0.1
_REPORT_EVERY = 1.0
_EVALUATING = 0.05
"""Most of the time that evaluations may take, and checkpoints and figures of the replica."""
_KEEPING = 0.005
_RATE_SECONDS = 10.0
_SEEK_SECONDS = 1.0
_HAND_IN_SECONDS = 15.0
_ABANDON_SECONDS = 2.0
_COMES_BACK_SECONDS = 30.0
_SETTLE_SECONDS = 60.0
_SETTLE_SLOTS = 4

log = logging.getLogger("learnae")


@dataclass(frozen=True, slots=True)
class SwarmStatistics:
    """How this script's part in the swarm goes.

    ``attached``: a daemon is there. ``mode``: "train", "pause", "finish" or, without a daemon, "alone". ``rounds``,
    ``steps``, ``samples``: own work. ``samples_seen``: the samples behind the swarm's weights. ``applied``, ``void``:
    updates in the replica, and those that could not be decoded. ``share``: the weight of this node's rounds.
    ``dropped``: own rounds that were given up for numbers that are not finite. ``merging``: seconds spent in `step`,
    but for waiting; ``longest``: the longest that one step took of it. ``headroom``: the part of its range that is free
    in the replica's fullest tensor.
    """

    attached: bool
    mode: str
    rounds: int
    steps: int
    samples: int
    samples_seen: int
    applied: int
    void: int
    share: float
    dropped: int
    merging: float
    longest: float
    headroom: float


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
        self._resumes = resumes
        self._weights = weights
        self._daemon = daemon
        self._genesis = genesis
        self._evaluator = evaluate
        self._books = Books()
        self._link: Link | None = None
        self._updates: Updates | None = None
        self._path = Path()
        self._mode = "pause"
        self._share = 1.0
        self._finished = self._stopped = self._closed = False
        self._settled = False  # the last round has just been settled
        self._last_closed = False  # the last round before the node finishes
        self._started = self._resumed = False
        self._last_slot: int | None = None  # of the round under way
        self._slot_steps = (-1, 0)
        self._pace = Pace(genesis.slot_seconds)
        self._aside = ThreadPoolExecutor(2, "learnae")
        self._encoding: Future[Round] | None = None
        self._saving: Future[None] | None = None
        self._restraint = Restraint(self._warn)
        self._limited = False
        self._metrics: dict[str, float] = {}
        self._averaged: dict[str, float] = {}
        self._digest = b""
        self._alarms: list[str] = []
        self._rates = (time.monotonic(), 0, 0, 0.0, 0.0)
        self._next_report = self._due = 0.0
        self._last = time.monotonic()
        self._dropped = 0
        self._merging = self._longest = self._exchange = 0.0
        self._found: Link | None = None
        self._seeking = threading.Event()

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
        return self._books.rounds

    @property
    def samples_seen(self) -> int:
        """Samples behind the swarm's weights: what a schedule should count, so that everybody is in phase."""
        return self._weights.samples_seen

    @property
    def attached(self) -> bool:
        """Whether a daemon is there; without one, training goes on alone until it is back."""
        return self._link is not None

    @property
    def finished(self) -> bool:
        """The node was told to finish, and has handed in its last round: `step` returns False."""
        return self._finished

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
        if now < self._due and self._weights.idle and not (self._link is not None and self._link.waiting):
            self._last = now
            return not self._finished
        return self._attend(now)

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
        found = self._weights.statistics()
        return SwarmStatistics(
            attached=self.attached,
            mode=self._mode,
            rounds=self._books.rounds,
            steps=found.steps,
            samples=found.samples,
            samples_seen=found.samples_seen,
            applied=found.applied,
            void=found.void,
            share=self._share,
            dropped=self._dropped,
            merging=self._merging,
            longest=self._longest,
            headroom=found.headroom,
        )

    # --- coming and going

    def start(self) -> Self:
        """Attach, starting a daemon if there is none, and wait until the model has the swarm's weights.

        Raises:
            DaemonError: no daemon can be started, or it does not answer.
            TrainerError: the daemon serves another script, or does not want this one.
        """
        try:
            self._attach(self._daemon.attach())
            self._started = True
            told = time.monotonic() + 5.0
            while self._mode in ("pause", "alone"):
                if self._link is None:
                    self._wait_for_daemon()
                self._turn(math.inf, 0.1)
                if time.monotonic() > told:
                    told = math.inf
                    log.warning("waiting for the swarm's weights, or for `learnae resume`: see `learnae status`")
            self._wait_while_told()
        except BaseException as error:
            self.close(error)
            raise
        self._last = time.monotonic()
        return self

    def close(self, error: BaseException | None = None) -> None:
        """Leave: hand in the last round, and let the daemon settle if it was started here. Then the model has the
        swarm's weights. After an error, only the state is saved, and the user told."""
        if self._closed:
            return
        self._closed = True
        clean = error is None
        try:
            if self._link is not None and self._started:
                if error is None:
                    self._leave()
                else:
                    self._abandon(error)
            elif self._started and error is None:
                self._save(wait=True)
        except BaseException:
            clean = False
            raise
        finally:
            self._seeking.set()
            for link in (self._link, self._found):
                if link is not None:
                    link.close()
            self._link = None
            let_go()
            self._aside.shutdown(wait=True)
            self._daemon.end(wait=clean)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(error)

    def _leave(self) -> None:
        if self._daemon.own and not self._finished:
            assert self._link is not None
            self._link.send(protocol.Leave())
        patience = _SETTLE_SECONDS + _SETTLE_SLOTS * self._genesis.slot_seconds
        deadline = time.monotonic() + (patience if self._daemon.own else _HAND_IN_SECONDS)
        while self._link is not None and not self._stopped and time.monotonic() < deadline:
            if not self._daemon.own:
                if self._finished:
                    break
                if self._weights.round_steps and not self._weights.closed and self._mode == "train":
                    self._close_round()
                if not self._weights.closed and self._weights.idle:
                    break
            self._turn(math.inf, 0.05)
        if self._weights.closed:
            log.warning("the last round was not stored in time; it is not part of the swarm's weights")
        self._save(wait=True)
        if self._link is not None or self._stopped:
            self._weights.finish_work()
            self._weights.adopt()

    def _abandon(self, error: BaseException) -> None:
        """The script has failed, or was interrupted."""
        link = self._link
        assert link is not None
        let_go()  # to be able to say that the bound on memory was reached
        memory = any(means_memory(cause) for cause in _causes(error))
        if memory:
            text = "training needed more memory than it may have"
            link.send(protocol.Failed(text, "", fatal=False, memory=True))
        elif isinstance(error, Exception) and not isinstance(error, TrainerError | DaemonError):
            trace = "".join(traceback.format_exception(error))
            code = error.code if isinstance(error, LearnaeError) else "task-failed"
            text = str(error) if isinstance(error, LearnaeError) else f"the script failed with {_words(error)}"
            link.send(protocol.Failed(text, trace, fatal=False, code=code))
        if not memory and not isinstance(error, LayoutError):
            # A round that is on its way is waited for: the state cannot be kept without knowing of it.
            deadline = time.monotonic() + _ABANDON_SECONDS
            with suppress(LearnaeError):
                while self._weights.closed and self._link is not None and time.monotonic() < deadline:
                    self._turn(math.inf, 0.05)
            self._save(wait=True)

    # --- the daemon

    def _wait_for_daemon(self) -> None:
        """It has hung up before training began, as it does if what a script has does not fit any more."""
        deadline = time.monotonic() + _COMES_BACK_SECONDS
        while self._found is None:
            if not self._daemon.alive or time.monotonic() > deadline:
                raise DaemonError(
                    "the daemon ended before training began; look into its log, `learnae logs` shows it",
                    code="daemon-silent",
                )
            time.sleep(0.05)
        found, self._found = self._found, None
        self._attach(found)

    def _attach(self, link: Link) -> None:
        """Take up with a daemon: say what this node has, and go on from there."""
        setup = link.setup
        self._link = link
        self._mode = "pause"
        self._restraint = Restraint(self._warn, daemon=link.pid)
        self._restraint.apply(setup.limits)
        self._limited = setup.limits.cpu is not None
        blocks = Blocks(Path(setup.blocks))
        if not self._resumed:
            self._resumed = True
            self._path = Path(setup.directory) / self._genesis.swarm_id(setup.topic).hex()[:16]
            self._resume(setup, blocks)
            jitter = random.Random(setup.author)
            self._evaluations = Budget(_EVALUATING, jitter)
            self._checkpoints = Budget(_KEEPING, jitter)
            self._figures = Budget(_KEEPING, jitter)
            if self._evaluator is not None:
                self._evaluate()
            self._restraint.loaded()
        self._updates = Updates(
            self._weights, self._books, setup.author, blocks, self._send, lambda write: self._aside.submit(write)
        )
        self._send(
            protocol.Hello(
                genesis=self._genesis.to_wire(),
                base=self._books.base,
                total=self._books.total,
                applied=self._books.rows(),
                own_seq=self._books.own_seq,
                parameters=self._weights.layout.size,
                local=len(self._weights.layout.local),
                rounds=self._books.rounds,
            )
        )
        if self._books.outbox is not None:
            self._hand_in(self._books.outbox)

    def _resume(self, setup: protocol.Setup, blocks: Blocks) -> None:
        """Go on where this script, or the one before it in this profile, was."""
        start = Start(Path(setup.directory), setup.topic, self._genesis, self._weights.genesis_digest)
        start, fresh = start.found() if self._resumes else start, self._genesis
        self._genesis, self._path = start.genesis, start.path
        self._weights.genesis_digest = start.digest
        try:
            books = load_checkpoint(self._path, self._weights)
        except LearnerError as error:
            self._warn(f"{error}; the file was moved aside")
            set_aside(self._path)
            books = None
        if books is not None:
            self._books = books
            log.info("going on after step %d", self.steps)
            return
        try:
            if start.genesis != fresh:
                leaves = snapshot.read(blocks, start.genesis.weights)
                self._weights.load(Replica.from_snapshot(leaves, self._weights.layout), 0)
            else:
                snapshot.write(blocks, self._weights.replica.pieces())
            start.keep()
        except StoreError as error:
            self._warn(str(error))
            self._genesis, self._weights.genesis_digest = fresh, self._weights.replica.digest()

    def _detach(self, why: str) -> None:
        """Go on alone until the daemon is back."""
        if self._link is not None:
            self._link.close(0.1)
        self._link = self._updates = None
        self._mode = "alone"
        if self._closed or self._finished:
            return
        log.warning("%s; training goes on alone, and joins the swarm again when the daemon is back", why)
        self._seeking.clear()
        threading.Thread(target=self._seek, name="learnae-seek", daemon=True).start()

    def _seek(self) -> None:
        """Until a daemon waits for this script. In a thread of its own."""
        while not self._seeking.wait(_SEEK_SECONDS):
            try:
                self._daemon.revive()
                link = self._daemon.look()
            except (LearnaeError, OSError) as error:
                log.debug("not attached yet: %s", error)
                continue
            if link is not None:
                self._found = link
                return

    def _send(self, message: protocol.TrainerMessage) -> None:
        link = self._link
        if link is not None:
            link.send(message)

    def _warn(self, text: str) -> None:
        log.warning("%s", text)
        self._send(protocol.Warned(text))

    # --- between two steps

    def _attend(self, now: float) -> bool:
        if not self._started or self._closed:
            raise TrainerError(
                "swarm.step was called outside of the block: write `with learnae.join(...) as swarm:` around the loop",
                code="trainer-protocol",
            )
        if self._found is not None:
            found, self._found = self._found, None
            log.info("the daemon is back")
            self._attach(found)
        if (slot := self._slot()) != self._slot_steps[0]:
            self._slot_steps = slot, self._weights.steps - 1
        self._turn(max(_SLICE_SECONDS, _SLICE_PART * (now - self._last)))
        took = time.monotonic() - now
        self._merging += took
        self._exchange += took
        self._longest = max(self._longest, took)
        self._wait_while_told()
        self._last = time.monotonic()
        left = self._genesis.slot_seconds - time.time() % self._genesis.slot_seconds
        self._due = self._last + min(left, max(self._next_report - self._last, 0.0))
        if self._limited or self._genesis.round_steps is not None:
            self._due = 0.0
        return not self._finished

    def _turn(self, patience: float, timeout: float = 0.0) -> None:
        """Do what there is to do, for so long; wait up to `timeout` seconds for something."""
        deadline = time.monotonic() + patience
        try:
            while True:
                if not self._weights.idle:
                    self._weights.work()
                elif not self._advance():
                    message = self._link.receive(timeout) if self._link is not None else None
                    if message is None:
                        break
                    self._handle(message)
                    timeout = 0.0
                if time.monotonic() >= deadline:
                    break
            self._report()
        except EOFError:
            self._detach("the daemon has hung up")
        except (StoreError, TrainerError) as error:
            if error.code == "trainer-ended" or not isinstance(error, StoreError):
                raise
            # The daemon looks after what it wanted to be loaded; we come again with the weights that we have.
            self._send(protocol.Failed(str(error), "", fatal=False, code=error.code))
            self._detach(coded(error))

    def _wait_while_told(self) -> None:
        """While the node is paused, rests for a limit, or has done the steps of a slot."""
        told = False
        while self._link is not None and not self._finished:
            if self._mode == "pause":
                if not told:
                    log.info("paused: see `learnae status`")
                told = True
                self._turn(math.inf, 0.2)
            elif self._limited and (left := self._restraint.rest()) > 0:
                self._turn(math.inf, min(left, 1.0))
            elif self._mode == "train" and self._slot_is_full():
                left = self._genesis.slot_seconds - time.time() % self._genesis.slot_seconds
                self._turn(math.inf, min(max(left, 0.001), 0.2))
            else:
                return

    def _slot_is_full(self) -> bool:
        most, (slot, before) = self._genesis.round_steps, self._slot_steps
        return most is not None and slot == self._slot() and self._weights.steps - before >= most

    # --- rounds

    def _slot(self) -> int:
        return int(time.time() // self._genesis.slot_seconds)

    def _advance(self) -> bool:
        """Bring the own rounds forward, if there is something to bring."""
        weights = self._weights
        if self._encoding is not None:
            if not self._encoding.done():
                return False
            self._encoded()
        elif weights.closed and weights.collected is False:
            self._dropped += 1
            self._warn(str(weights.drop_round()))
        elif weights.closed and weights.collected and self._books.outbox is None and not self._settled:
            self._encoding = self._aside.submit(weights.encode, self._share)
        elif self._settled and not weights.closed:
            self._settled = False
            self._after_round()
        elif not weights.closed and self._is_over():
            self._close_round()
        elif self._mode == "finish" and not weights.closed and not self._finished:
            self._finished = True
            self._send(protocol.Finished())
        else:
            return False
        return True

    def _is_over(self) -> bool:
        if self._mode == "finish":
            return self._weights.round_steps > 0 and not self._last_closed
        if self._mode != "train":
            return False
        slot = self._slot()
        if self._last_slot is None:
            self._last_slot = self._pace.last_slot(slot)
        return slot > self._last_slot and self._weights.round_steps > 0

    def _close_round(self) -> None:
        self._last_slot = self._pace.last_slot(self._slot())
        self._last_closed = self._mode == "finish"
        self._weights.close_round()

    def _encoded(self) -> None:
        """A round is encoded: hand it in."""
        assert self._encoding is not None
        future, self._encoding = self._encoding, None
        try:
            finished = future.result()
        except LearnerError as error:
            self._weights.drop_round()
            self._warn(str(error))
            return
        self._books.rounds += 1
        self._books.outbox = protocol.RoundDone(
            parts=finished.parts,
            samples=finished.samples,
            share=self._share,
            norm=finished.norm,
            loss=finished.loss,
            after=self._books.own_seq,
            loads=0,
        )
        self._hand_in(self._books.outbox)

    def _hand_in(self, outbox: protocol.RoundDone) -> None:
        if self._updates is not None:
            self._updates.waiting = True
            self._send(replace(outbox, after=self._books.own_seq, loads=self._updates.loads))

    def _after_round(self) -> None:
        """The model has gone over to phi."""
        self._pace.note(self._exchange)
        self._exchange = 0.0
        if self._evaluator is not None and self._evaluations.allows():
            with self._evaluations:
                self._evaluate()
        if self._checkpoints.allows() and (self._saving is None or self._saving.done()):
            with self._checkpoints:
                self._save()
        self._report(at_once=True)

    # --- messages

    def _handle(self, message: protocol.TrainerMessage) -> None:
        assert self._updates is not None
        match message:
            case protocol.SetMode():
                self._mode = message.mode
                self._finished = self._finished and message.mode == "finish"
                self._last_closed = self._last_closed and message.mode == "finish"
            case protocol.SetShare():
                self._share = message.share
            case protocol.SetLimits():
                self._restraint.apply(message)
                self._limited = message.cpu is not None
            case protocol.Evaluate():
                if self._evaluator is not None:
                    self._evaluate()
                self._report(final=True)
            case protocol.Stop():
                self._save(wait=True)
                self._stopped = True
                self._detach("the daemon was stopped")
            case protocol.Refused():
                raise TrainerError(message.message, code=message.code)
            case protocol.Load():
                if self._encoding is not None:
                    self._encoding.exception()  # The encoder is not to be reset under its hands.
                    self._encoding = None
                self._updates.handle(message)
                self._settled = False
                self._save()
            case protocol.Accepted() if self._books.outbox is None:
                # Of a round on weights that were given up.
                self._books.own_seq = max(self._books.own_seq, message.seq)
            case protocol.Accepted():
                self._updates.handle(message)
                self._settled = True
            case _:
                if not self._updates.handle(message):
                    raise TrainerError(
                        f"the daemon sent {type(message).__name__}, which is not for trainers", code="trainer-protocol"
                    )

    # --- state and figures

    def _save(self, *, wait: bool = False) -> None:
        """Keep the state for a restart; not while a round is closed, whose local steps would be encoded twice."""
        if self._saving is not None and wait:
            self._saving.exception()
        self._weights.finish_work()
        if self._weights.closed or self._encoding is not None or self._path == Path():
            return
        state, genesis, books = self._weights.state(), self._weights.genesis_digest, self._books.to_wire()
        self._saving = self._aside.submit(self._write, state, genesis, books)
        if wait:
            self._saving.result()

    def _write(self, state: dict[str, Any], genesis: bytes, books: list[Any]) -> None:
        try:
            write_checkpoint(self._path, state, genesis, books)
        except StoreError as error:
            self._warn(str(error))

    def _evaluate(self) -> None:
        self._metrics = self.evaluate(averaged=False)
        self._averaged = self.evaluate(averaged=True)

    def _report(self, *, final: bool = False, at_once: bool = False) -> None:
        now = time.monotonic()
        if not (final or at_once) and now < self._next_report:
            return
        self._next_report = now + _REPORT_EVERY
        if self._link is None:
            return
        self._restraint.hold_memory()
        weights = self._weights
        if final or self._figures.allows():
            with self._figures:
                self._digest, self._alarms = weights.replica.digest(), weights.replica.alarms()
        self._send(
            protocol.Report(
                rounds=self._books.rounds,
                steps=weights.steps,
                samples=weights.samples,
                samples_per_second=self._rate(now)[0],
                steps_per_second=self._rate(now)[1],
                loss=weights.mean_loss,
                metrics=self._metrics,
                averaged=self._averaged,
                digest=self._digest,
                alarms=self._alarms,
                training_seconds=self._pace.slots * self._genesis.slot_seconds - self._exchange,
                exchange_seconds=self._exchange,
                slots_per_round=self._pace.slots,
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


def _causes(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
