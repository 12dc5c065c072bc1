"""A scripted daemon at the other end of a worker's line, and updates for it to hand on."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from learnae import protocol, snapshot
from learnae.blocks import Blocks
from learnae.learner import Learner, Round
from learnae.rules import FULL
from learnae.task import Shard, load_task
from learnaed.trainer.worker import Worker

ME, OTHER = b"m" * 32, b"o" * 32
M = TypeVar("M")


class Daemon:
    """Answers the worker's messages by rules; stands in for `pipe.Pipe`."""

    def __init__(self) -> None:
        self.said: list[protocol.TrainerMessage] = []
        self.inbox: deque[protocol.TrainerMessage] = deque()
        self.rules: list[Callable[[protocol.TrainerMessage], None]] = []
        self.seq = 0

    def receive(self, timeout: float) -> protocol.TrainerMessage | None:
        return self.inbox.popleft() if self.inbox else None

    def send(self, message: protocol.TrainerMessage) -> None:
        self.said.append(message)
        for rule in self.rules:
            rule(message)

    def tell(self, *messages: protocol.TrainerMessage) -> None:
        self.inbox.extend(messages)

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.said if isinstance(message, kind)]

    def accept_rounds(self, then_stop_after: int, ratio: int | None = FULL) -> None:
        def rule(message: protocol.TrainerMessage) -> None:
            if isinstance(message, protocol.RoundDone):
                self.seq = message.after + 1
                self.tell(accepted(self.seq, message.parts, ratio))
                if self.seq == then_stop_after or ratio is None:
                    self.tell(protocol.SetMode("finish"))
            if isinstance(message, protocol.Finished):
                self.tell(protocol.Evaluate(), protocol.Stop())

        self.rules.append(rule)

    @property
    def hello(self) -> protocol.Hello:
        (hello,) = self.of(protocol.Hello)
        return hello

    @property
    def final(self) -> protocol.Report:
        report = self.of(protocol.Report)[-1]
        assert report.final
        return report


def digest(parts: list[bytes]) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def accepted(seq: int, parts: list[bytes], ratio: int | None = FULL) -> protocol.Accepted:
    return protocol.Accepted(ME, seq, digest(parts), seq, ratio)


def add(
    update: Round, *, author: bytes = OTHER, seq: int = 1, slot: int = 1, norm: float | None = None, ratio: int = FULL
) -> list[protocol.TrainerMessage]:
    """The frames by which the daemon has an update added."""
    claim = update.norm if norm is None else norm
    about = protocol.Add(author, seq, digest(update.parts), slot, update.samples, claim, ratio, len(update.parts))
    return [about, *map(protocol.Piece, update.parts)]


def remove(update: Round, *, seq: int = 1) -> list[protocol.TrainerMessage]:
    about = protocol.Remove(OTHER, seq, digest(update.parts), update.samples, len(update.parts))
    return [about, *map(protocol.Piece, update.parts)]


def without(update: Round, *, seq: int = 1) -> list[protocol.TrainerMessage]:
    about = protocol.Without(OTHER, seq, digest(update.parts), len(update.parts))
    return [about, *map(protocol.Piece, update.parts)]


def learner(shard: str = "1/2") -> Learner:
    return Learner(load_task("digits", None), Shard.parse(shard, alpha=0.3))


def rounds(count: int) -> list[Round]:
    """What another node did in so many rounds."""
    author = learner("2/2")
    made = []
    for _ in range(count):
        author.step()
        made.append(author.finish_round(0.5))
        author.accept(author.payload(parts=made[-1].parts), made[-1].samples)
    return made


def sum_of(*updates: tuple[Round, int]) -> bytes:
    """The digest of the replica that holds these updates, each with its ratio."""
    at = learner()
    for update, ratio in updates:
        assert at.apply(at.payload(update.norm, update.parts), update.samples, ratio)
    return at.replica.digest()


def make(directory: Path, daemon: Daemon) -> Worker:
    blocks = str(blocks_of(directory).directory)
    setup = protocol.Setup(ME, "topic", "digits", None, "1/2", 0.3, 0, 1, str(directory / "trainer"), blocks)
    return Worker(daemon, setup)  # type: ignore[arg-type]


def run(directory: Path, *messages: protocol.TrainerMessage) -> Daemon:
    """A worker's life in which the daemon says these things, has it evaluate, and stops it."""
    daemon = Daemon()
    daemon.tell(*messages, protocol.Evaluate(), protocol.Stop())
    make(directory, daemon).run()
    return daemon


def state(directory: Path) -> Path:
    """Where the worker keeps its state of the one swarm that it knows."""
    (only,) = (directory / "trainer").iterdir()
    return only


def blocks_of(directory: Path) -> Blocks:
    """Where the worker finds the blocks of snapshots, and puts them."""
    return Blocks(directory / "blocks")


def bring(directory: Path, source: Path, root: bytes) -> None:
    """What the daemon does before it says that a snapshot is to be loaded."""
    assert snapshot.write(blocks_of(directory), snapshot.read(blocks_of(source), root)).cid == root
