"""The supervisor against trainer processes that behave in every wrong way; they are small scripts without torch."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace

import pytest
import trio

from learnae import protocol
from learnae.errors import TaskError
from learnaed.trainer import supervisor
from learnaed.trainer.supervisor import Send, Trainer, Undeliverable, Unit

SETUP = protocol.Setup(bytes(32), "topic", "task", None, "1/1", None, 0, None, "somewhere", "elsewhere")
PRELUDE = """
import os, sys, time
from learnae import protocol
frames = protocol.FrameReader()
inbox = []
def receive():
    while not inbox:
        data = os.read(0, 65536)
        if not data:
            os._exit(0)
        inbox.extend(frames.feed(data))
    return inbox.pop(0)
def send(message):
    os.write(1, protocol.to_frame(message))
setup = receive()
hello = protocol.Hello([], None, bytes(32), [], 0, 1, 0, 0)
"""


class Harness:
    """A trainer under test, with what it said."""

    def __init__(self, script: str) -> None:
        self.heard: list[protocol.TrainerMessage] = []
        self.lost = self.wanted = 0
        self._changed = trio.Event()
        self.trainer = Trainer(
            SETUP,
            hear=self._hear,
            lost=self._lost,
            command=(sys.executable, "-c", PRELUDE + textwrap.dedent(script)),
        )

    async def _hear(self, message: protocol.TrainerMessage) -> None:
        self.heard.append(message)
        if isinstance(message, protocol.Hello):
            self.trainer.begin()
        self._notify()

    def _lost(self, wanted: bool) -> None:
        self.lost += 1
        self.wanted += wanted
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(20):
            while not condition():
                await self._changed.wait()

    def said(self, kind: type) -> list[protocol.TrainerMessage]:
        return [message for message in self.heard if isinstance(message, kind)]


def unit(number: int, pieces: int = 2) -> Unit:
    """An update with its pieces, sent with pauses in between."""

    async def send_all(send: Send) -> None:
        await send(protocol.Add(bytes(32), number, bytes(32), 1, 1, 1.0, 1, pieces))
        for piece in range(pieces):
            await trio.lowlevel.checkpoint()
            await send(protocol.Piece(bytes([number, piece])))

    return send_all


@pytest.fixture(autouse=True)
def quick_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_RESTART", 0.01)


ECHO = """
send(hello)
while True:
    message = receive()
    match message:
        case protocol.Add():
            pieces = [receive() for _ in range(message.pieces)]
            if [piece.data for piece in pieces] == [bytes([message.seq, n]) for n in range(message.pieces)]:
                send(protocol.Void(message.author, message.seq))
        case protocol.Evaluate():
            send(protocol.Warned(setup.directory))
        case protocol.Stop():
            sys.exit(0)
"""


async def test_messages_and_units_arrive_in_order_and_whole() -> None:
    harness = Harness(ECHO)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.trainer.run)
        await harness.until(lambda: bool(harness.heard))
        for number in range(1, 20):
            harness.trainer.tell(unit(number, number % 4))
            harness.trainer.tell(protocol.SetMode("train"))
        harness.trainer.tell(protocol.Evaluate())
        await harness.until(lambda: bool(harness.said(protocol.Warned)))
        assert [m.seq for m in harness.said(protocol.Void)] == list(range(1, 20))  # type: ignore[union-attr]
        assert harness.said(protocol.Warned) == [protocol.Warned("somewhere")]
        assert harness.trainer.statistics().state == "running"
        await harness.trainer.stop()
    assert harness.lost == 0
    assert harness.trainer.statistics().state == "stopped"


@pytest.mark.parametrize(
    "end", ["sys.exit(3)", "os.kill(os.getpid(), 9)", "os.write(1, b'\\xff' * 20); time.sleep(60)"]
)
async def test_a_process_that_dies_or_talks_nonsense_is_started_again(end: str) -> None:
    harness = Harness(f"send(hello)\n{end}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.trainer.run)
        await harness.until(lambda: harness.lost >= 3)
        statistics = harness.trainer.statistics()
        assert statistics.restarts >= 2
        assert statistics.last_error
        await harness.trainer.stop()
        nursery.cancel_scope.cancel()


async def test_a_task_that_cannot_be_loaded_is_not_tried_again() -> None:
    harness = Harness('send(protocol.Failed("no such task", "", True)); sys.exit(1)')
    with pytest.raises(TaskError, match="no such task"):
        await harness.trainer.run()
    assert harness.lost == 0


async def test_what_is_told_before_hello_is_dropped() -> None:
    harness = Harness(ECHO)
    harness.trainer.tell(unit(1))
    assert harness.trainer.statistics().queued == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.trainer.run)
        await harness.until(lambda: bool(harness.heard))
        harness.trainer.tell(protocol.Evaluate())
        await harness.until(lambda: bool(harness.said(protocol.Warned)))
        assert not harness.said(protocol.Void)
        await harness.trainer.stop()


async def test_units_can_be_taken_back_and_messages_stay() -> None:
    harness = Harness(ECHO)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.trainer.run)
        await harness.until(lambda: bool(harness.heard))
        harness.trainer.tell(unit(1))
        harness.trainer.tell(protocol.Evaluate())
        harness.trainer.tell(unit(2))
        harness.trainer.forget_units()
        harness.trainer.tell(unit(3))
        await harness.until(lambda: bool(harness.said(protocol.Void)))
        assert [m.seq for m in harness.said(protocol.Void)] == [3]  # type: ignore[union-attr]
        assert harness.said(protocol.Warned)
        await harness.trainer.stop()


async def test_a_unit_that_was_taken_back_before_anything_was_sent_may_fail() -> None:
    begun, pruned = trio.Event(), trio.Event()

    async def waiting(send: Send) -> None:
        begun.set()
        await pruned.wait()
        raise Undeliverable("it was pruned")

    harness = Harness(ECHO)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.trainer.run)
        await harness.until(lambda: bool(harness.heard))
        harness.trainer.tell(waiting)
        await begun.wait()
        harness.trainer.forget_units()
        harness.trainer.tell(unit(2))
        pruned.set()
        await harness.until(lambda: bool(harness.said(protocol.Void)))
        assert [m.seq for m in harness.said(protocol.Void)] == [2]  # type: ignore[union-attr]
        assert harness.lost == 0
        await harness.trainer.stop()


async def test_a_unit_that_cannot_be_completed_starts_the_process_again() -> None:
    async def torn(send: Send) -> None:
        await send(protocol.Add(bytes(32), 9, bytes(32), 1, 1, 1.0, 1, 2))
        raise Undeliverable("it was pruned")

    harness = Harness(ECHO)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.trainer.run)
        await harness.until(lambda: bool(harness.heard))
        harness.trainer.tell(torn)
        harness.trainer.tell(unit(1))
        await harness.until(lambda: len(harness.said(protocol.Hello)) == 2)
        harness.trainer.tell(unit(2))
        await harness.until(lambda: bool(harness.said(protocol.Void)))
        assert [m.seq for m in harness.said(protocol.Void)] == [2]  # type: ignore[union-attr]
        assert harness.lost == 1
        await harness.trainer.stop()


@pytest.mark.parametrize("script", ["send(hello)\ntime.sleep(600)", "time.sleep(600)"])
async def test_a_process_that_does_not_stop_is_killed(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.2)
    harness = Harness(script)
    pid = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.trainer.run)
        with trio.fail_after(20):
            while (pid := harness.trainer.statistics().pid) is None:
                await trio.lowlevel.checkpoint()
        await harness.trainer.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_cancellation_leaves_no_process() -> None:
    harness = Harness("send(hello)\ntime.sleep(600)")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.trainer.run)
        await harness.until(lambda: bool(harness.heard))
        pid = harness.trainer.statistics().pid
        assert pid is not None
        nursery.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_what_was_meant_for_a_process_that_has_ended_is_not_told_to_the_next() -> None:
    """The driver may be so slow to take note of a hello that the process has ended in the meantime."""
    harness = Harness(ECHO)
    trainer = harness.trainer
    lives: list[int] = []

    async def hear(message: protocol.TrainerMessage) -> None:
        harness.heard.append(message)
        if isinstance(message, protocol.Hello):
            lives.append(trainer.life)
            if len(lives) == 1:
                pid = trainer.statistics().pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
        harness._notify()

    trainer._hear = hear
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trainer.run)
        await harness.until(lambda: len(lives) == 2)
        trainer.begin(lives[0])
        trainer.tell(unit(1))
        assert trainer.statistics().state == "starting"
        assert "killed (SIGKILL), as the system does when memory runs out" in str(trainer.statistics().last_error)
        trainer.begin(lives[1])
        trainer.tell(unit(2))
        await harness.until(lambda: bool(harness.said(protocol.Void)))
        await trainer.stop()
    assert harness.said(protocol.Void) == [protocol.Void(bytes(32), 2)]


SAYS_LIMITS = """
    send(protocol.Warned(f"{setup.limits}"))
    send(hello)
    while True:
        send(protocol.Warned(str(receive())))
"""
FREE = SETUP.limits
SLOW = protocol.SetLimits(0.5, 2, 15, True, 2**30)


async def test_limits_hold_for_this_process_and_for_the_next(quick_restarts: None) -> None:
    harness = Harness(SAYS_LIMITS)
    trainer = harness.trainer

    def texts() -> list[str]:
        return [message.text for message in harness.heard if isinstance(message, protocol.Warned)]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trainer.run)
        await harness.until(lambda: len(texts()) == 1)
        trainer.limit(SLOW)  # it may still be loading: then it is told as soon as it is ready
        await harness.until(lambda: len(texts()) == 2)
        assert texts() == [str(FREE), str(SLOW)]
        trainer.limit(SLOW)
        trainer.restart("it is to")
        await harness.until(lambda: len(texts()) == 3)
        assert texts()[2] == str(SLOW), "from the start, and not told again"
        assert trainer.statistics().last_error == "it is to"
        await harness.until(lambda: len(harness.said(protocol.Hello)) == 2)
        trainer.limit(replace(SLOW, gpu=False))
        await harness.until(lambda: len(texts()) == 4)
        assert texts()[3] == str(replace(SLOW, gpu=False)), "whether a GPU may be used cannot be changed in a process"
        assert (harness.lost, harness.wanted) == (2, 1)
        found = trainer.statistics()
        assert (found.restarts, found.last_error) == (1, "it is to"), "what the user wanted is no failure"
        nursery.cancel_scope.cancel()
