"""The line from a script to the daemon that it attaches to: two threads, so that no step waits for it; for `Swarm`."""

from __future__ import annotations

import os
import queue
import secrets
import socket
import threading
from contextlib import suppress

from learnae import protocol
from learnae.errors import DaemonError, LearnaeError, TrainerError
from learnae.trainer.door import GREETING, NONCE, PROOF, Door

_QUEUED = 128
"""Most messages that wait here; with pieces of 256 KiB they take 32 MiB. What does not fit waits in the daemon."""
_PATIENCE = 10.0
"""Seconds for each answer while the connection is made."""


class Link:
    """A connection to the daemon behind a door.

    Raises:
        DaemonError: nobody answers there, or somebody else.
        TrainerError: the daemon does not want this script now.
    """

    version = protocol.VERSION
    """Of the protocol that is spoken."""

    def __init__(self, door: Door) -> None:
        self.pid = door.pid
        try:
            self._socket = socket.create_connection(("127.0.0.1", door.port), timeout=_PATIENCE)
        except OSError as error:
            raise DaemonError(
                f"the daemon of topic {door.topic!r} (process {door.pid}) cannot be reached: {error}. "
                "Look into its log, or start it again",
                code="daemon-silent",
            ) from error
        self._inbox: queue.Queue[protocol.TrainerMessage | None] = queue.Queue(_QUEUED)
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._over = False
        try:
            self._frames = protocol.FrameReader()
            self._shake_hands(door)
            self.setup = self._introduce()
        except OSError as error:
            self._socket.close()
            raise DaemonError(
                f"the daemon of topic {door.topic!r} (process {door.pid}) broke off: {error}. Look into its log",
                code="daemon-silent",
            ) from error
        except LearnaeError:
            self._socket.close()
            raise
        self._socket.settimeout(None)
        self._threads = [
            threading.Thread(target=target, name=f"learnae-{target.__name__}", daemon=True)
            for target in (self._read, self._write)
        ]
        for thread in self._threads:
            thread.start()

    # --- the beginning

    def _shake_hands(self, door: Door) -> None:
        opening = self._take(len(GREETING) + NONCE)
        mine = secrets.token_bytes(NONCE)
        challenges = opening[len(GREETING) :] + mine
        self._socket.sendall(mine + door.proof("trainer", challenges))
        if not opening.startswith(GREETING) or not door.accepts(self._take(PROOF), "daemon", challenges):
            raise DaemonError(
                f"what answers on port {door.port} is not the daemon of topic {door.topic!r}: it may have ended. "
                "Start it again",
                code="daemon-silent",
            )

    def _take(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            if not (found := self._socket.recv(length - len(data))):
                raise ConnectionResetError("it hung up")
            data += found
        return data

    def _introduce(self) -> protocol.Setup:
        self._socket.sendall(protocol.to_frame(protocol.Attach(self.version, os.getpid())))
        while True:
            if not (data := self._socket.recv(1 << 16)):
                raise ConnectionResetError("it hung up")
            for message in self._frames.feed(data):
                if isinstance(message, protocol.Refused):
                    raise TrainerError(message.message, code=message.code)
                if isinstance(message, protocol.Setup):
                    return message

    # --- messages

    def receive(self, timeout: float = 0.0) -> protocol.TrainerMessage | None:
        """The next message, or None after `timeout` seconds.

        Raises:
            EOFError: the daemon is gone.
        """
        if timeout <= 0 and not self._inbox.qsize():
            return None
        try:
            message = self._inbox.get(timeout=timeout) if timeout > 0 else self._inbox.get_nowait()
        except queue.Empty:
            return None
        if message is None:
            raise EOFError
        return message

    @property
    def waiting(self) -> bool:
        """Whether a message is here."""
        return self._inbox.qsize() > 0

    def send(self, message: protocol.TrainerMessage) -> None:
        """Send a message, sooner or later; one that is lost with the connection is told by `receive`."""
        self._outbox.put(protocol.to_frame(message))

    def close(self, patience: float = 2.0) -> None:
        """Send what is still to be sent, for so many seconds, and hang up."""
        self._over = True
        self._outbox.put(None)
        self._threads[1].join(patience)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(patience)
        self._socket.close()

    def _read(self) -> None:
        with suppress(OSError, LearnaeError):
            while data := self._socket.recv(1 << 18):
                for message in self._frames.feed(data):
                    if not self._put(message):
                        return
        self._put(None)

    def _put(self, message: protocol.TrainerMessage | None) -> bool:
        while not self._over:
            with suppress(queue.Full):
                self._inbox.put(message, timeout=0.5)
                return True
        return False

    def _write(self) -> None:
        with suppress(OSError):
            while (frame := self._outbox.get()) is not None:
                self._socket.sendall(frame)
