"""Runs the examples as their users would, each with a daemon of its own on loopback; for the tests of examples."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PATIENCE = 240.0


def loopback(home: Path, *peers: str, port: int = 0) -> dict[str, str]:
    """Variables for a daemon that keeps to loopback: those of `learnaed run`, and what keeps frameworks quiet."""
    return {
        **os.environ,
        "LEARNAE_HOME": str(home),
        "LEARNAE_LISTEN": f"/ip4/127.0.0.1/tcp/{port}",
        "LEARNAE_PEER": " ".join(peers),
        "LEARNAE_MDNS": "false",
        "LEARNAE_STATUS_PORT": "0",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "daemon")]),
    }


def free_port() -> int:
    """Of a daemon that is to be found again after a restart, as on the PCs of users."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Running:
    """A script that is started, killed and started again, in one home."""

    def __init__(self, home: Path, *command: str) -> None:
        self.home = home
        self.command = command
        self.port = free_port()
        self.log = home.parent / f"{home.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *peers: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=self.home.parent,
                env=loopback(self.home, *peers, port=self.port),
                stdout=log,
                stderr=log,
            )

    @property
    def door(self) -> dict[str, Any]:
        """Where its daemon is, as the daemon has written into its profile."""
        (file,) = self.home.glob("*/status.json")
        content: dict[str, Any] = json.loads(file.read_text())
        return content

    @property
    def status(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"{self.door['url']}/api/status", timeout=5) as answer:
                content: dict[str, Any] = json.loads(answer.read())
        except http.client.HTTPException as error:
            raise OSError(f"the daemon ended while it answered: {error}") from error
        return content

    @property
    def trainer(self) -> dict[str, Any]:
        content: dict[str, Any] = self.status["trainer"]
        return content

    @property
    def address(self) -> str:
        listen: str = self.status["listen"][0]
        return listen

    @property
    def summary(self) -> dict[str, Any]:
        (file,) = self.home.glob("*/summary.json")
        content: dict[str, Any] = json.loads(file.read_text())["status"]
        return content

    def finish(self) -> None:
        """As `learnae finish` does."""
        (token,) = self.home.glob("*/token")
        request = urllib.request.Request(
            f"{self.door['url']}/api/finish",
            method="POST",
            headers={"Authorization": f"Bearer {token.read_text().strip()}"},
        )
        urllib.request.urlopen(request, timeout=5).close()

    def wait_for(self, done: Callable[[], Any], patience: float = PATIENCE) -> None:
        """Until so; what cannot be seen yet is not so."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                if done():
                    return
            except (OSError, ValueError, LookupError):
                pass
            assert self.process is not None and self.process.poll() is None, f"it has ended:\n{self.said()}"
            time.sleep(0.1)
        raise AssertionError(f"not within {patience} s:\n{self.said()}")

    def end(self) -> None:
        """It ends by itself, and well."""
        assert self.process is not None
        assert self.process.wait(PATIENCE) == 0, self.said()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


@contextmanager
def running(*scripts: Running) -> Iterator[tuple[Running, ...]]:
    """None of them is left at the end."""
    try:
        yield scripts
    finally:
        for script in scripts:
            script.kill()
