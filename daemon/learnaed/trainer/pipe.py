"""The trainer's line to the daemon: frames in, frames out; used by the trainer process."""

from __future__ import annotations

import os
import queue
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import BinaryIO

from learnae import protocol
from learnae.errors import LearnaeError

_GRACE = 3.0
"""Seconds between the daemon's end and ours, for a step that does not return."""
_QUEUED = 128
"""Most messages that wait here; with pieces of 256 KiB they take 32 MiB. What does not fit waits in the daemon."""


def _end_process() -> None:
    time.sleep(_GRACE)
    os._exit(0)


class Pipe:
    """The line to the daemon: a thread reads, so that a long step never blocks the other end for no reason.

    `ended` is called in that thread when the daemon is gone; by default it ends this process after a grace.
    """

    def __init__(self, source: BinaryIO, sink: BinaryIO, ended: Callable[[], None] = _end_process) -> None:
        self._source, self._sink, self._ended = source, sink, ended
        self._inbox: queue.Queue[protocol.TrainerMessage | None] = queue.Queue(_QUEUED)
        threading.Thread(target=self._read, name="daemon-pipe", daemon=True).start()

    def _read(self) -> None:
        frames = protocol.FrameReader()
        try:
            while data := os.read(self._source.fileno(), 1 << 20):
                for message in frames.feed(data):
                    self._put(message)
        except (OSError, LearnaeError) as error:
            sys.stderr.write(f"the daemon's line broke: {error}\n")
        while True:  # The end must get through; what waits before it has no addressee any more.
            try:
                self._inbox.put_nowait(None)
                break
            except queue.Full:
                self._inbox.get_nowait()
        self._ended()

    def _put(self, message: protocol.TrainerMessage) -> None:
        """Raises OSError if the daemon goes away while the worker takes nothing in."""
        hung_up = select.poll()
        hung_up.register(self._source, select.POLLHUP)
        while True:
            try:
                self._inbox.put(message, timeout=1.0)
                return
            except queue.Full:
                if hung_up.poll(0):
                    raise BrokenPipeError("it was closed") from None

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
