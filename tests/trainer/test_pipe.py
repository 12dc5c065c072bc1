"""The worker's line to the daemon, over real pipes."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import pytest

from learnae import protocol
from learnaed.trainer.pipe import Pipe


@dataclass
class Line:
    pipe: Pipe
    to_worker: BinaryIO
    from_worker: BinaryIO


@pytest.fixture
def line() -> Iterator[Line]:
    (worker_in, daemon_out), (daemon_in, worker_out) = os.pipe(), os.pipe()
    source, to_worker = os.fdopen(worker_in, "rb", 0), os.fdopen(daemon_out, "wb", 0)
    from_worker, sink = os.fdopen(daemon_in, "rb", 0), os.fdopen(worker_out, "wb")
    ended = threading.Event()
    yield Line(Pipe(source, sink, ended.set), to_worker, from_worker)
    for end in (to_worker, from_worker):
        end.close()
    assert ended.wait(10.0), "when the daemon is gone, the process is told"
    source.close()
    with contextlib.suppress(BrokenPipeError):
        sink.close()


def test_messages_pass_both_ways_in_order(line: Line) -> None:
    for seq in range(3):
        line.to_worker.write(protocol.to_frame(protocol.SetShare(seq / 4)))
    assert [line.pipe.receive(5.0) for _ in range(3)] == [protocol.SetShare(seq / 4) for seq in range(3)]
    assert line.pipe.receive(0) is None
    line.pipe.send(protocol.Finished())
    assert list(protocol.FrameReader().feed(line.from_worker.read(1000))) == [protocol.Finished()]


def test_what_the_worker_does_not_take_waits_in_the_daemon(line: Line) -> None:
    """The queue is bounded, so a busy worker does not pile up payloads in its memory."""
    os.set_blocking(line.to_worker.fileno(), False)
    frame = protocol.to_frame(protocol.Piece(bytes(60_000)))
    sent = 0
    pending = b""
    while sent < 10_000:
        pending = pending or frame
        written = line.to_worker.write(pending)
        if written is None:
            if line.pipe._inbox.full():
                break
            continue
        pending = pending[written:]
        sent += not pending
    assert sent < 300
    for _ in range(sent):
        assert isinstance(line.pipe.receive(5.0), protocol.Piece)
    os.set_blocking(line.to_worker.fileno(), True)
    line.to_worker.write(pending)
    assert isinstance(line.pipe.receive(5.0), protocol.Piece)


def test_the_end_of_the_daemon_gets_through_a_full_queue(line: Line) -> None:
    frame = protocol.to_frame(protocol.Piece(b"x"))
    os.set_blocking(line.to_worker.fileno(), False)
    line.to_worker.write(frame * 200)
    line.to_worker.close()
    with pytest.raises(EOFError):
        for _ in range(300):
            line.pipe.receive(5.0)


def test_sending_to_a_daemon_that_is_gone(line: Line) -> None:
    line.from_worker.close()
    with pytest.raises(EOFError):
        line.pipe.send(protocol.Finished())
