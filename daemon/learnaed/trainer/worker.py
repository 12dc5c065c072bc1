"""The trainer process: trains, encodes rounds, adds updates; started by `supervisor`, speaks `learnae.protocol`.

It touches no network. Frames go over the standard input and output it was started with; what user code prints goes
to standard error. When the input ends, the daemon is gone and so is this process.
"""

from __future__ import annotations

import os
import queue
import random
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import BinaryIO

from learnae import protocol
from learnae.errors import ConfigError, DataError, LayoutError, LearnaeError, LearnerError, StoreError, TaskError
from learnae.genesis import Genesis
from learnae.vector import VersionVector
from learnaed.trainer.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, set_aside

_GRACE = 3.0
"""Seconds between the daemon's end and ours, for a step that does not return."""
_REPORT_EVERY = 1.0
_OVERHEAD = 0.05
"""Most of the time that checkpoints, and that evaluations, may take."""
_SETUP_WAIT = 30.0
_NICENESS = 10
"""The PC is somebody's, and the daemon's answers must not wait behind a training step."""


class Pipe:
    """The line to the daemon: a thread reads, so that a long step never blocks the other end."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink = source, sink
        self._inbox: queue.SimpleQueue[protocol.TrainerMessage | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="daemon-pipe", daemon=True).start()

    def _read(self) -> None:
        frames = protocol.FrameReader()
        try:
            while data := os.read(self._source.fileno(), 1 << 20):
                for message in frames.feed(data):
                    self._inbox.put(message)
        except (OSError, LearnaeError) as error:
            sys.stderr.write(f"the daemon's line broke: {error}\n")
        self._inbox.put(None)
        time.sleep(_GRACE)
        os._exit(0)

    def receive(self, timeout: float) -> protocol.TrainerMessage | None:
        """The next message, or None after `timeout` seconds.

        Raises:
            EOFError: the daemon is gone.
        """
        try:
            message = self._inbox.get(timeout=timeout) if timeout > 0 else self._inbox.get_nowait()
        except queue.Empty:
            return None
        if message is None:
            raise EOFError
        return message

    def send(self, message: protocol.TrainerMessage) -> None:
        """Send a message; raises EOFError if the daemon is gone."""
        try:
            self._sink.write(protocol.to_frame(message))
            self._sink.flush()
        except BrokenPipeError as error:
            raise EOFError from error


class Worker:
    """Drives a `Learner` through slots and rounds.

    A round starts with a slot and ends when its steps are done or the slot is over. It is then encoded, saved as the
    outbox and handed in. Only when the daemon has stored it is it added to the own replica, like anybody's update.
    """

    def __init__(self, pipe: Pipe, setup: protocol.Setup) -> None:
        # torch is imported here, after the pipe is up: it takes seconds.
        from learnae.learner import Learner
        from learnae.task import Shard, load_task

        if setup.threads is not None:
            import torch

            torch.set_num_threads(setup.threads)
        self._pipe = pipe
        self._task = load_task(setup.task, Path(setup.data) if setup.data else None)
        self._shard = Shard.parse(setup.shard, alpha=setup.skew)
        self._author = setup.author
        self._learner = Learner(self._task, self._shard, seed=setup.seed)
        self._genesis = Genesis(
            self._learner.layout,
            self._learner.exponents,
            self._learner.genesis_digest,
            float(self._task.slot_seconds),
            self._task.round_steps,
        )
        # A replica is the sum of one swarm's updates: each swarm has a state of its own.
        self._path = Path(setup.directory) / self._genesis.swarm_id(setup.topic).hex()[:16]
        try:
            self._saved = load_checkpoint(self._path, self._learner) or Checkpoint(VersionVector())
        except LearnerError as error:
            self._warn(f"{error}; it was moved aside")
            set_aside(self._path)
            self._learner = Learner(self._task, self._shard, seed=setup.seed)
            self._saved = Checkpoint(VersionVector())
        self._slot_seconds = self._genesis.slot_seconds
        self._mode = "pause"
        self._share = 1.0
        self._accepted: list[tuple[bytes, int]] = []
        self._finished = False
        self._stopping = False
        self._round_slot = -1
        self._rate = Rate()
        jitter = random.Random(f"{setup.shard} {setup.seed}")
        self._evaluations = Budget(_OVERHEAD, jitter)
        self._checkpoints = Budget(_OVERHEAD, jitter)
        self._next_report = 0.0
        self._loss: float | None = None
        self._metrics: dict[str, float] = {}
        self._averaged: dict[str, float] = {}

    def run(self) -> None:
        """Train until the daemon says stop or goes away."""
        # Data are read and errors in user code come up now, not in the middle of the first round.
        self._learner.warm_up()
        self._evaluate()
        layout = self._learner.layout
        self._pipe.send(
            protocol.Hello(
                genesis=self._genesis.to_wire(),
                applied=self._saved.applied.to_wire(),
                parameters=layout.size,
                local=len(layout.local),
                rounds=self._saved.rounds,
            )
        )
        if self._saved.outbox is not None:
            self._hand_in(self._saved.outbox)
        while True:
            self._report()
            self._handle_messages(0)
            if self._stopping:
                break
            if self._mode == "finish" and not self._finished:
                if self._learner.round_samples:
                    self._close_round()  # A pause had interrupted it.
                self._finished = True
                self._pipe.send(protocol.Finished())
            elif self._mode != "train" or self._finished:
                self._handle_messages(1.0)
            elif self._slot() == self._round_slot:
                self._idle_until_slot_ends()
            else:
                # What came in since the last round is in the replica: this is what the whole swarm made of that slot.
                self._learner.tick_average()
                self._round()
        self._save()

    # --- rounds

    def _slot(self) -> int:
        return int(time.time() // self._slot_seconds)

    def _round(self) -> None:
        slot = self._round_slot = self._slot()
        steps = 0
        while not steps or (self._slot() == slot and steps != self._genesis.round_steps):
            self._loss = self._learner.step()
            self._rate.add(self._learner.round_samples)
            steps += 1
            self._report()
            self._handle_messages(0)
            if self._stopping or self._mode == "pause":
                return
        self._close_round()
        if self._evaluations.allows():
            with self._evaluations:
                self._evaluate()
            self._report(at_once=True)

    def _close_round(self) -> None:
        try:
            finished = self._learner.finish_round(self._share)
        except LearnerError as error:
            self._warn(str(error))
            return
        self._saved.rounds += 1
        message = protocol.RoundDone(
            parts=finished.parts,
            samples=finished.samples,
            share=self._share,
            norm=finished.norm,
            loss=finished.loss,
            after=self._saved.applied.contiguous(self._author),
        )
        self._saved.outbox = message
        if self._checkpoints.allows():
            with self._checkpoints:
                self._save()
        self._hand_in(message)
        self._report(at_once=True)

    def _hand_in(self, message: protocol.RoundDone) -> None:
        self._accepted.clear()
        self._pipe.send(message)
        while not self._accepted:
            self._handle_messages(1.0)
            if self._stopping:
                return
        # After a crash the update may have come back as an ordinary one already.
        if self._saved.applied.add(*self._accepted[-1]):
            self._learner.accept(message.parts, message.samples)
        else:
            self._learner.restart_round()
        self._saved.outbox = None

    def _idle_until_slot_ends(self) -> None:
        left = (self._round_slot + 1) * self._slot_seconds - time.time()
        self._handle_messages(min(max(left, 0.001), 1.0))

    # --- messages

    def _handle_messages(self, timeout: float) -> None:
        """Handle all that is here; wait up to `timeout` seconds for the first."""
        while (message := self._pipe.receive(timeout)) is not None:
            self._handle(message)
            timeout = 0

    def _handle(self, message: protocol.TrainerMessage) -> None:
        match message:
            case protocol.Add():
                self._add(message)
            case protocol.Accepted():
                self._accepted.append((message.author, message.seq))
            case protocol.SetMode():
                self._mode = message.mode
                self._finished = self._finished and message.mode == "finish"
            case protocol.SetShare():
                self._share = message.share
            case protocol.Evaluate():
                self._learner.tick_average()
                self._evaluate()
                self._report(final=True)
            case protocol.Stop():
                self._stopping = True
            case _:
                raise LearnaeError(f"the daemon sent {type(message).__name__}, which is not for trainers")

    def _add(self, message: protocol.Add) -> None:
        if not self._saved.applied.add(message.author, message.seq):
            return
        if not self._learner.apply(message.parts, message.samples):
            self._pipe.send(protocol.Void(message.author, message.seq))

    # --- state and figures

    def _save(self) -> None:
        try:
            save_checkpoint(self._path, self._learner, self._saved)
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
        learner = self._learner
        self._pipe.send(
            protocol.Report(
                rounds=self._saved.rounds,
                steps=learner.steps,
                samples=learner.samples,
                samples_per_second=self._rate.samples_per_second(),
                steps_per_second=self._rate.steps_per_second(),
                loss=self._loss,
                metrics=self._metrics,
                averaged=self._averaged,
                digest=learner.replica.digest(),
                alarms=list(learner.statistics().alarms),
                final=final,
            )
        )


class Rate:
    """Steps and samples per second over the last ten seconds or so."""

    def __init__(self) -> None:
        self._started = time.monotonic()
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
        elapsed = time.monotonic() - self._started
        if elapsed >= 10.0 or not any(self._last):
            self._last = (self._samples / max(elapsed, 1e-3), self._steps / max(elapsed, 1e-3))
        if elapsed >= 10.0:
            self._started, self._steps, self._samples = time.monotonic(), 0, 0
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

    def __init__(self, part: float, jitter: random.Random) -> None:
        self._part = part
        self._jitter = jitter
        self._next = 0.0
        self._began = 0.0

    def allows(self) -> bool:
        """Whether it is time again."""
        return time.monotonic() >= self._next

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        now = time.monotonic()
        self._next = now + (now - self._began) / self._part * self._jitter.uniform(1.0, 2.0)


def _explained(error: BaseException, task: str) -> tuple[str, str]:
    """What to tell the user of an error, and its traceback if it is one of their own code."""
    if isinstance(error, LearnaeError):
        own_code = isinstance(error, TaskError) and not isinstance(error, DataError) and error.__cause__ is not None
        return str(error), traceback.format_exc() if own_code else ""
    text = f"the task {task} failed with {type(error).__name__}: {error}; the log has the traceback. Correct the task"
    return text, traceback.format_exc()


def main() -> int:
    """Entry point of the process."""
    if os.name == "posix":
        os.nice(_NICENESS)
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
            fatal = isinstance(error, (ConfigError, TaskError, LayoutError))
            pipe.send(protocol.Failed(*_explained(error, setup.task), fatal=fatal))
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
