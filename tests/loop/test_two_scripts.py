"""Two scripts with daemons of their own: killed, daemons killed, resumed; in the end they hold the same weights."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from netsim.daemons import ROOT

SCRIPT = Path(__file__).with_name("script.py")


class Script:
    """A running script, and what it has said."""

    def __init__(self, home: Path, seed: int, until: Path, port: int, *peers: str) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "daemon")])
        self.home = home
        self.said: list[dict[str, Any]] = []
        with (home.parent / f"{home.name}.err").open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), str(home), str(seed), str(until), str(port), *peers],
                env={**os.environ, "PYTHONPATH": path},
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))

    def wait_for(self, what: Callable[[dict[str, Any]], bool], patience: float = 90.0) -> dict[str, Any]:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            for line in self.said:
                if what(line):
                    return line
            ended = self.process.poll() is not None and not self._reader.is_alive()
            assert not ended or any(map(what, self.said)), self.errors()
            time.sleep(0.05)
        raise AssertionError(f"not within {patience} s; last: {self.said[-3:]}\n{self.errors()}")

    @property
    def status(self) -> dict[str, Any]:
        (file,) = self.home.glob("*/status.json")
        content: dict[str, Any] = json.loads(file.read_text())
        return content

    @property
    def summary(self) -> dict[str, Any]:
        (file,) = self.home.glob("*/summary.json")
        content: dict[str, Any] = json.loads(file.read_text())["status"]
        return content

    def errors(self) -> str:
        return (self.home.parent / f"{self.home.name}.err").read_text()[-3000:]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def end(self) -> int:
        code = self.process.wait(60)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Script]]:
    made: list[Script] = []

    def begin(name: str, seed: int, *peers: str, port: int = 0) -> Script:
        made.append(Script(tmp_path / name, seed, tmp_path / "enough", port, *peers))
        return made[-1]

    yield begin
    for script in made:
        if script.process.poll() is None:
            script.kill()


def port(script: Script) -> str:
    """Where its daemon listens: the script has said nothing before that is known."""
    import urllib.request

    with urllib.request.urlopen(f"{script.status['url']}/api/status", timeout=5) as answer:
        listen: str = json.loads(answer.read())["listen"][0]
    return listen


def of_others(line: dict[str, Any]) -> int:
    """How many updates of others this line tells of."""
    found: int = line.get("applied", 0) - line.get("rounds", 0)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.timeout(300)
def test_two_scripts_agree_to_the_bit_after_script_and_daemon_were_killed(
    start: Callable[..., Script], tmp_path: Path
) -> None:
    # Always the same port, as at home: the other one finds it again when its daemon is a new one.
    one = start("one", 1, port=free_port())
    one.wait_for(lambda line: "joined" in line)
    two = start("two", 2, port(one))
    two.wait_for(lambda line: line.get("applied", 0) > line.get("rounds", 0) > 2)
    # The second script dies, and its daemon with it: no orphan.
    daemon = two.status["pid"]
    known = two.said[-1]["steps"]
    two.kill()
    deadline = time.monotonic() + 15
    while not is_gone(daemon) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert is_gone(daemon), "the daemon ends with the script that it was started for"
    two = start("two", 2, port(one))
    joined = two.wait_for(lambda line: "joined" in line)
    assert 0 < joined["joined"] <= known + 20, "it goes on where it was"
    # The first one's daemon dies: the script goes on alone, starts it again, and comes back.
    killed = one.status["pid"]
    os.kill(killed, signal.SIGKILL)
    one.wait_for(lambda line: line.get("attached") is False)
    before = len(one.said)
    one.wait_for(lambda line: line.get("attached") is True and one.said.index(line) > before)
    assert one.status["pid"] != killed
    seen = max(map(of_others, one.said))
    one.wait_for(lambda line: of_others(line) > seen)
    (tmp_path / "enough").touch()
    assert (one.end(), two.end()) == (0, 0), one.errors() + two.errors()
    assert one.said[-1]["weights"] == two.said[-1]["weights"] != ""
    assert one.summary["ledger"]["vector_digest"] == two.summary["ledger"]["vector_digest"]
    assert one.summary["trainer"]["digest"] == two.summary["trainer"]["digest"]
    assert one.summary["trainer"]["state"] == "running" or one.summary["trainer"]["digest"]
