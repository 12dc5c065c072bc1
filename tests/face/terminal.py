"""A real pseudo-terminal with a command in it, and what a person would see there; used by the tests of the CLI."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyte

ROOT = Path(__file__).resolve().parents[2]
MAIN = "from learnae.cli import main; main()"


class Terminal:
    """`learnae ARGUMENTS` in a terminal of so many columns and lines; ended at the latest with the block."""

    def __init__(self, *arguments: str, columns: int = 80, lines: int = 24, **environment: str) -> None:
        self.screen = pyte.Screen(columns, lines)
        self.sent = b""
        """All that the command has written so far."""
        self._stream = pyte.Stream(self.screen)
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._master, slave = pty.openpty()
        self.resize(columns, lines)
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=_environment(environment),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Signals of keys and resizing come from it.
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        os.close(self._master)

    @property
    def shown(self) -> str:
        """The lines on the screen now."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def resize(self, columns: int, lines: int) -> None:
        """As if a window was made larger or smaller."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    def until(self, right: Callable[[str], Any], seconds: float = 60) -> str:
        """What is shown once it is as it should be. Fails with the screen if that does not come."""
        deadline = time.monotonic() + seconds
        while not right(self.shown):
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"not within {seconds} s, or ended; the screen:\n{self.shown}")
        return self.shown

    def ended(self, seconds: float = 60) -> int:
        """The exit code, once it has ended and all that it wrote is read."""
        deadline = time.monotonic() + seconds
        while self._read(deadline - time.monotonic()):
            pass
        return self.process.wait(max(deadline - time.monotonic(), 0.1))

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], max(seconds, 0))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False  # Linux says so when the last one has closed the other end.
        self.sent += data
        self._stream.feed(self._text.decode(data))
        return bool(data)


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LEARNAE_", "COLUMNS", "LINES"))}
    kept.pop("NO_COLOR", None)
    path = os.pathsep.join((str(ROOT), str(ROOT / "daemon")))
    return kept | {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONPATH": path} | dict(changes)
