"""The supervisor against trainer processes that behave in every wrong way; they are small scripts without torch."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable

import pytest
import trio

from learnae import protocol
from learnae.errors import TaskError
from learnae.vector import UpdateId
from learnaed.trainer import supervisor
from learnaed.trainer.supervisor import Trainer

SETUP = protocol.Setup(bytes(32), "topic", "task", None, "1/1", None, 0, None, "somewhere")
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
hello = protocol.Hello([], [], 1, 0, 0)
"""


class Harness:
    """A trainer under test, with what it said."""

    def __init__(self, script: str) -> None:
        self.heard: list[protocol.TrainerMessage] = []
        self.lost = 0
        self._changed = trio.Event()
        self.trainer = Trainer(
            SETUP,
            load=self._load,
            hear=self._hear,
            lost=self._lost,
            command=(sys.executable, "-c", PRELUDE + textwrap.dedent(script)),
        )

    async def _load(self, update: UpdateId) -> protocol.Add:
        return protocol.Add(*update, 1, [b"part"])

    async def _hear(self, message: protocol.TrainerMessage) -> None:
        self.heard.append(message)
        if isinstance(message, protocol.Hello):
            self.trainer.begin()
        self._notify()

    def _lost(self) -> None:
        self.lost += 1
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


@pytest.fixture(autouse=True)
def quick_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_RESTART", 0.01)


ECHO = """
send(hello)
while True:
    message = receive()
    match message:
        case protocol.Add():
            send(protocol.Void(message.author, message.seq))
        case protocol.Evaluate():
            send(protocol.Warned(setup.directory))
        case protocol.Stop():
            sys.exit(0)
"""


async def test_messages_and_stored_updates_arrive_in_order() -> None:
    harness = Harness(ECHO)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.trainer.run)
        await harness.until(lambda: bool(harness.heard))
        ids = [(bytes([n]) * 32, n) for n in range(1, 20)]
        for update in ids:
            harness.trainer.tell(update)
        harness.trainer.tell(protocol.Evaluate())
        await harness.until(lambda: bool(harness.said(protocol.Warned)))
        assert [(m.author, m.seq) for m in harness.said(protocol.Void)] == ids  # type: ignore[union-attr]
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
    harness.trainer.tell((bytes(32), 1))
    assert harness.trainer.statistics().queued == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.trainer.run)
        await harness.until(lambda: bool(harness.heard))
        harness.trainer.tell(protocol.Evaluate())
        await harness.until(lambda: bool(harness.said(protocol.Warned)))
        assert not harness.said(protocol.Void)
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
