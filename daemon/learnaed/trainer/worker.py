"""The trainer process: trains, encodes rounds, adds updates; started by `supervisor`, speaks `learnae.protocol`.

It touches no network. Frames go over the standard input and output it was started with; what user code prints goes
to standard error. When the input ends, the daemon is gone and so is this process.
"""

from __future__ import annotations

import os
import random
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from learnae import protocol, snapshot
from learnae.blocks import Blocks
from learnae.errors import ConfigError, DataError, LayoutError, LearnaeError, LearnerError, StoreError, TaskError
from learnae.genesis import Genesis
from learnae.trainer.books import Books
from learnae.trainer.checkpoint import load_checkpoint, save_checkpoint, set_aside
from learnae.trainer.pace import Budget, Meter, Pace, Rate, Spent
from learnae.trainer.restraint import Restraint, let_go, means_memory
from learnae.trainer.updates import Updates
from learnaed.trainer.pipe import Pipe

_REPORT_EVERY = 1.0
_OVERHEAD = 0.05
"""Most of the time that checkpoints, evaluations, and figures of the replica may take, each."""
_SETUP_WAIT = 30.0


class Worker:
    """Drives a `Learner` through slots and rounds.

    A round starts with a slot and ends when its steps are done or its last slot is over. It is then encoded, saved as
    the outbox and handed in. Only when the daemon has stored it is it added to the own replica, like anybody's update.
    What the daemon says is carried out between two local steps.
    """

    def __init__(self, pipe: Pipe, setup: protocol.Setup) -> None:
        self._pipe = pipe
        self.restraint = Restraint(self._warn)
        self.restraint.apply(setup.limits)
        # torch is imported here, after the pipe is up: it takes seconds.
        from learnae.initial import read_weights
        from learnae.learner import Learner
        from learnae.task import Shard, load_task

        self._blocks = Blocks(Path(setup.blocks))
        task = load_task(setup.task, Path(setup.data) if setup.data else None)
        shard = Shard.parse(setup.shard, alpha=setup.skew)
        initial = read_weights(setup.init, self._blocks) if setup.init is not None else None
        self._learner = Learner(task, shard, seed=setup.seed, initial=initial)
        if self._learner.fresh:
            self._warn(f"{setup.init} has no {', '.join(self._learner.fresh)}: the task's own weights are taken there")
        self._genesis = Genesis(
            self._learner.layout,
            self._learner.exponents,
            self._keep_genesis(),
            float(task.slot_seconds),
            task.round_steps,
            task.rules,
        )
        # A replica is the sum of one swarm's updates: each swarm has a state of its own.
        self._path = Path(setup.directory) / self._genesis.swarm_id(setup.topic).hex()[:16]
        try:
            self._books = load_checkpoint(self._path, self._learner) or Books()
        except LearnerError as error:
            self._warn(f"{error}; the file was moved aside")
            set_aside(self._path)
            self._learner = Learner(task, shard, seed=setup.seed, initial=initial)
            self._books = Books()
        self._updates = Updates(self._learner, self._books, setup.author, self._blocks, pipe.send)
        self._slot_seconds = self._genesis.slot_seconds
        self._mode = "pause"
        self._share = 1.0
        self._finished = False
        self._stopping = False
        self._slots = range(0)  # of the current round
        self._pace = Pace(self._slot_seconds)
        self._meter = Meter()
        self._spent = Spent()
        self._rate = Rate()
        jitter = random.Random(f"{setup.shard} {setup.seed}")
        self._evaluations = Budget(_OVERHEAD, jitter)
        self._checkpoints = Budget(_OVERHEAD, jitter)
        self._figures = Budget(_OVERHEAD, jitter)
        self._next_report = 0.0
        self._loss: float | None = None
        self._metrics: dict[str, float] = {}
        self._averaged: dict[str, float] = {}
        self._digest = b""
        self._alarms: list[str] = []

    def run(self) -> None:
        """Train until the daemon says stop or goes away."""
        # Data are read and errors in user code come up now, not in the middle of the first round.
        self._learner.warm_up()
        self._evaluate()
        self.restraint.loaded()
        self._pipe.send(
            protocol.Hello(
                genesis=self._genesis.to_wire(),
                base=self._books.base,
                total=self._books.total,
                applied=self._books.rows(),
                own_seq=self._books.own_seq,
                parameters=self._learner.layout.size,
                local=len(self._learner.layout.local),
                rounds=self._books.rounds,
            )
        )
        if self._books.outbox is not None:
            self._hand_in(replace(self._books.outbox, loads=self._updates.loads))
        while True:
            self._report()
            self._handle_messages(0)
            if self._stopping:
                break
            if self._mode == "finish" and not self._finished:
                if self._learner.round_samples:
                    self._close_round()  # A pause had interrupted it.
                    self._report(at_once=True)
                self._finished = True
                self._pipe.send(protocol.Finished())
            elif self._mode != "train" or self._finished:
                self._handle_messages(1.0)
            elif self._slot() in self._slots:
                self._idle_until_slot_ends()
            else:
                with self._meter.spend("exchange"):
                    # What came in since the last round is in the replica: what the whole swarm made of those slots.
                    self._learner.tick_average()
                self._round()
        self._save()

    # --- rounds

    def _slot(self) -> int:
        return int(time.time() // self._slot_seconds)

    def _round(self) -> None:
        first = slot = self._slot()
        self._slots = range(first, self._pace.last_slot(first) + 1)
        steps, stepped = 0, False
        while not stepped or self._slot() in self._slots:
            if slot != (now := self._slot()):
                slot, steps = now, 0
            if steps != self._genesis.round_steps:
                with self._meter.spend("training"):
                    self._loss = self._learner.step()
                self._rate.add(self._learner.round_samples)
                steps, stepped = steps + 1, True
                self._report()
                self._handle_messages(0)
                self._rest()
            elif slot == self._slots[-1]:
                break
            else:
                self._idle_until_slot_ends()
            if self._stopping or self._mode == "pause":
                return
        with self._meter.spend("exchange"):
            self._close_round()
            if self._evaluations.allows():
                with self._evaluations:
                    self._evaluate()
            self._report(at_once=True)
        self._spent = self._meter.take()
        self._pace.note(self._spent.exchange)

    def _close_round(self) -> None:
        try:
            finished = self._learner.finish_round(self._share)
        except LearnerError as error:
            self._warn(str(error))
            return
        message = self._books.close(finished, self._share, self._updates.loads)
        if self._checkpoints.allows():
            with self._checkpoints:
                self._save()
        self._hand_in(message)

    def _hand_in(self, message: protocol.RoundDone) -> None:
        """Wait until the daemon has accepted the round, carrying out what else it says."""
        self._updates.waiting = True
        self._pipe.send(message)
        while self._updates.waiting and not self._stopping:
            self._handle_messages(1.0)

    def _rest(self) -> None:
        """Leave the processor to others for as long as the limit wants it; what the daemon says is heard."""
        while (left := self.restraint.rest()) > 0 and self._mode != "pause" and not self._stopping:
            self._handle_messages(min(left, 1.0))
            self._report()

    def _idle_until_slot_ends(self) -> None:
        left = self._slot_seconds - time.time() % self._slot_seconds
        self._handle_messages(min(max(left, 0.001), 1.0))

    # --- messages

    def _handle_messages(self, timeout: float) -> None:
        """Handle all that is here; wait up to `timeout` seconds for the first."""
        while (message := self._pipe.receive(timeout)) is not None:
            with self._meter.spend("exchange"):
                self._handle(message)
            timeout = 0

    def _handle(self, message: protocol.TrainerMessage) -> None:
        match message:
            case protocol.SetMode():
                if message.mode == "train" != self._mode:
                    self._meter.take()  # What a pause was spent on says nothing about rounds.
                self._mode = message.mode
                self._finished = self._finished and message.mode == "finish"
            case protocol.SetShare():
                self._share = message.share
            case protocol.SetLimits():
                self.restraint.apply(message)
            case protocol.Evaluate():
                self._learner.tick_average()
                self._evaluate()
                self._report(final=True)
            case protocol.Stop():
                self._stopping = True
            case protocol.Load():
                self._updates.handle(message)
                self._save()
            case _:
                if not self._updates.handle(message):
                    raise LearnaeError(
                        f"the daemon sent {type(message).__name__}, which is not for trainers", code="defect"
                    )

    # --- state and figures

    def _keep_genesis(self) -> bytes:
        """The initial weights as a snapshot, for nodes that start from others and come over; its root."""
        try:
            return snapshot.write(self._blocks, self._learner.replica.pieces()).cid
        except StoreError as error:
            self._warn(str(error))
            return snapshot.root_of(self._learner.replica.pieces()).cid

    def _save(self) -> None:
        try:
            save_checkpoint(self._path, self._learner, self._books)
        except StoreError as error:
            self._warn(str(error))

    def _warn(self, text: str) -> None:
        self._pipe.send(protocol.Warned(text))

    def _evaluate(self) -> None:
        self._metrics = self._learner.evaluate(averaged=False)
        self._averaged = self._learner.evaluate(averaged=True)

    def _report(self, *, final: bool = False, at_once: bool = False) -> None:
        now = time.monotonic()
        if not (final or at_once) and now < self._next_report:
            return
        self._next_report = now + _REPORT_EVERY
        self.restraint.hold_memory()
        learner = self._learner
        if final or self._figures.allows():
            with self._figures:
                self._digest, self._alarms = learner.replica.digest(), learner.replica.alarms()
        self._pipe.send(
            protocol.Report(
                rounds=self._books.rounds,
                steps=learner.steps,
                samples=learner.samples,
                samples_per_second=self._rate.samples_per_second(),
                steps_per_second=self._rate.steps_per_second(),
                loss=self._loss,
                metrics=self._metrics,
                averaged=self._averaged,
                digest=self._digest,
                alarms=self._alarms,
                training_seconds=self._spent.training,
                exchange_seconds=self._spent.exchange,
                slots_per_round=self._pace.slots,
                final=final,
            )
        )


def _explained(error: BaseException, task: str) -> tuple[str, str]:
    """What to tell the user of an error, and its traceback if it is one of their own code."""
    if isinstance(error, LearnaeError):
        own_code = isinstance(error, TaskError) and not isinstance(error, DataError) and error.__cause__ is not None
        return str(error), traceback.format_exc() if own_code else ""
    text = f"the task {task} failed with {type(error).__name__}: {error}; the log has the traceback. Correct the task"
    return text, traceback.format_exc()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def main() -> int:
    """Entry point of the process."""
    source = os.fdopen(os.dup(0), "rb", buffering=0)
    sink = os.fdopen(os.dup(1), "wb")
    # User code may read or print: neither may touch the frames.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    pipe = Pipe(source, sink)
    try:
        setup = pipe.receive(_SETUP_WAIT)
        if not isinstance(setup, protocol.Setup):
            sys.stderr.write("the trainer was started without a daemon; use `learnaed run`\n")
            return 2
        try:
            Worker(pipe, setup).run()
        except (EOFError, KeyboardInterrupt):
            raise
        except BaseException as error:
            let_go()
            if any(map(means_memory, _causes(error))):
                pipe.send(protocol.Failed("training needed more memory than it may have", "", fatal=False, memory=True))
                return 1
            fatal = isinstance(error, (ConfigError, TaskError, LayoutError))
            code = error.code if isinstance(error, LearnaeError) else "task-failed"
            pipe.send(protocol.Failed(*_explained(error, setup.task), fatal, code))
            return 1
    except EOFError:
        return 0
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    # Not through interpreter shutdown: the reader thread may be blocked in a read.
    code = main()
    sys.stderr.flush()
    os._exit(code)
