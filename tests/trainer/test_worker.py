"""The worker inside this process: a scripted daemon on the other end of its line, a real learner behind it."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

from learnae import protocol
from learnae.genesis import Genesis
from learnae.learner import Learner
from learnae.task import Shard, load_task
from learnae.vector import VersionVector
from learnaed.trainer.checkpoint import FILE_NAME, Checkpoint, load_checkpoint, save_checkpoint
from learnaed.trainer.worker import Budget, Worker

ME, OTHER = b"m" * 32, b"o" * 32


class Daemon:
    """Answers the worker's messages by rules; stands in for `worker.Pipe`."""

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

    def of(self, kind: type) -> list[protocol.TrainerMessage]:
        return [message for message in self.said if isinstance(message, kind)]

    def accept_rounds(self, then_stop_after: int) -> None:
        def rule(message: protocol.TrainerMessage) -> None:
            if isinstance(message, protocol.RoundDone):
                self.seq += 1
                self.tell(protocol.Accepted(ME, self.seq))
                if self.seq == then_stop_after:
                    self.tell(protocol.SetMode("finish"))
            if isinstance(message, protocol.Finished):
                self.tell(protocol.Evaluate(), protocol.Stop())

        self.rules.append(rule)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the wall clock takes 10 ms of it, so that slots pass without waiting."""
    now = 1_000_000.0

    def tick() -> float:
        nonlocal now
        now += 0.01
        return now

    monkeypatch.setattr("learnaed.trainer.worker.time.time", tick)


def setup(directory: Path) -> protocol.Setup:
    return protocol.Setup(ME, "topic", "digits", None, "1/2", 0.3, 0, 1, str(directory))


def state(directory: Path) -> Path:
    """Where the worker keeps its state of the one swarm that it knows."""
    (only,) = directory.iterdir()
    return only


def make(directory: Path, daemon: Daemon) -> Worker:
    return Worker(daemon, setup(directory))  # type: ignore[arg-type]


def final(daemon: Daemon) -> protocol.Report:
    report = daemon.of(protocol.Report)[-1]
    assert isinstance(report, protocol.Report)
    assert report.final
    return report


def test_trains_hands_in_and_finishes(tmp_path: Path, clock: None) -> None:
    daemon = Daemon()
    daemon.accept_rounds(3)
    daemon.tell(protocol.SetShare(0.5), protocol.SetMode("train"))
    make(tmp_path, daemon).run()
    assert len(daemon.of(protocol.RoundDone)) == 3
    assert len(daemon.of(protocol.Finished)) == 1
    report = final(daemon)
    assert report.rounds == 3
    assert report.steps > 3
    assert 0 < report.metrics["accuracy"] <= 1
    assert (state(tmp_path) / FILE_NAME).exists()


def test_an_update_is_added_once_however_often_it_comes(tmp_path: Path, clock: None) -> None:
    learner = Learner(load_task("digits", None), Shard.parse("2/2", alpha=0.3))
    learner.step()
    done = learner.finish_round(0.5)
    add = protocol.Add(OTHER, 1, done.samples, done.parts)
    digests = []
    for copies in (1, 3):
        daemon = Daemon()
        daemon.tell(*[add] * copies, protocol.Evaluate(), protocol.Stop())
        make(tmp_path / str(copies), daemon).run()
        digests.append(final(daemon).digest)
    learner.accept(done.parts, done.samples)
    assert digests == [learner.replica.digest()] * 2


def test_void_updates_are_reported_and_add_nothing(tmp_path: Path, clock: None) -> None:
    daemon = Daemon()
    daemon.tell(protocol.Add(OTHER, 1, 5, [b"not a part"]), protocol.Evaluate(), protocol.Stop())
    make(tmp_path, daemon).run()
    (void,) = daemon.of(protocol.Void)
    assert isinstance(void, protocol.Void)
    assert (void.author, void.seq) == (OTHER, 1)
    fresh = Learner(load_task("digits", None), Shard.parse("1/2", alpha=0.3))
    assert final(daemon).digest == fresh.replica.digest()


def crash_after_handing_in(directory: Path) -> protocol.RoundDone:
    daemon = Daemon()

    def die(message: protocol.TrainerMessage) -> None:
        if isinstance(message, protocol.RoundDone):
            raise EOFError

    daemon.rules.append(die)
    daemon.tell(protocol.SetMode("train"))
    with pytest.raises(EOFError):
        make(directory, daemon).run()
    (done,) = daemon.of(protocol.RoundDone)
    assert isinstance(done, protocol.RoundDone)
    return done


def test_a_round_whose_answer_never_came_is_handed_in_again(tmp_path: Path, clock: None) -> None:
    done = crash_after_handing_in(tmp_path)
    daemon = Daemon()
    daemon.accept_rounds(1)
    make(tmp_path, daemon).run()
    assert daemon.of(protocol.RoundDone) == [done]
    hello = daemon.of(protocol.Hello)[0]
    assert isinstance(hello, protocol.Hello)
    assert hello.applied == []
    learner = Learner(load_task("digits", None), Shard.parse("1/2", alpha=0.3))
    learner.apply(done.parts, done.samples)
    assert final(daemon).digest == learner.replica.digest()


def test_a_round_that_had_been_stored_before_the_crash_counts_once(tmp_path: Path, clock: None) -> None:
    done = crash_after_handing_in(tmp_path)
    daemon = Daemon()
    daemon.tell(protocol.Add(ME, 1, done.samples, done.parts))
    daemon.accept_rounds(1)
    again = make(tmp_path, daemon)
    again.run()
    assert again._learner.round_samples == 0, "the local steps of that round must not be encoded again"
    learner = Learner(load_task("digits", None), Shard.parse("1/2", alpha=0.3))
    learner.apply(done.parts, done.samples)
    assert final(daemon).digest == learner.replica.digest()


def test_a_damaged_checkpoint_is_set_aside_and_told(tmp_path: Path, clock: None) -> None:
    first = Daemon()
    first.tell(protocol.Stop())
    make(tmp_path, first).run()
    (state(tmp_path) / FILE_NAME).write_bytes(b"rubbish" * 100)
    daemon = Daemon()
    daemon.tell(protocol.Evaluate(), protocol.Stop())
    make(tmp_path, daemon).run()
    (warned,) = daemon.of(protocol.Warned)
    assert isinstance(warned, protocol.Warned)
    assert "damaged" in warned.text
    assert (state(tmp_path) / "trainer.damaged").read_bytes().startswith(b"rubbish")


def test_a_checkpoint_that_cannot_be_written_does_not_stop_training(tmp_path: Path, clock: None) -> None:
    directory = tmp_path / "state"
    directory.write_text("a file where the directory should be")
    daemon = Daemon()
    daemon.accept_rounds(2)
    daemon.tell(protocol.SetMode("train"))
    make(directory, daemon).run()
    assert len(daemon.of(protocol.RoundDone)) == 2
    assert any("cannot be saved" in m.text for m in daemon.of(protocol.Warned))  # type: ignore[union-attr]


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    task, shard = load_task("digits", None), Shard.parse("1/2", alpha=0.3)
    learner = Learner(task, shard)
    learner.step()
    done = learner.finish_round(0.5)
    applied = VersionVector()
    applied.add(OTHER, 7)
    outbox = protocol.RoundDone(done.parts, done.samples, 0.5, done.norm, done.loss, 0)
    save_checkpoint(tmp_path, learner, Checkpoint(applied, 9, outbox))
    other = Learner(task, shard)
    loaded = load_checkpoint(tmp_path, other)
    assert loaded is not None
    assert (loaded.applied, loaded.rounds, loaded.outbox) == (applied, 9, outbox)
    assert other.step() == learner.step()
    assert not list(tmp_path.glob("*.new"))


def test_hello_names_the_genesis(tmp_path: Path, clock: None) -> None:
    daemon = Daemon()
    daemon.tell(protocol.Stop())
    make(tmp_path, daemon).run()
    hello = daemon.of(protocol.Hello)[0]
    assert isinstance(hello, protocol.Hello)
    genesis = Genesis.from_wire(hello.genesis)
    assert genesis.layout.size == hello.parameters
    assert genesis.swarm_id("one") != genesis.swarm_id("two")


def test_a_budget_keeps_to_its_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("learnaed.trainer.worker.time.monotonic", lambda: now)
    budget = Budget(0.05, random.Random(0))
    assert budget.allows()
    with budget:
        now += 1.0
    now += 19.9
    assert not budget.allows()
    now += 20.2
    assert budget.allows()
