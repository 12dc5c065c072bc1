"""The demo's daemons: starts them as processes, asks them how they do, ends them; used by `course`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx
import trio

from learnae.cli import daemons
from learnae.home import SUMMARY_FILE

PATIENCE = 8.0
"""Seconds that daemons get to end after SIGTERM before they are killed."""
_WITHHELD = {
    f"LEARNAE_{name}"
    for name in ["ALLOW", "CONFIG", "DENY", "MDNS", "PAUSED", "PEER", "PROFILE", "ROUNDS", "SECRET", "SECRET_FILE"]
}
"""Settings that the demo gives no flag for, and that must not reach its daemons from the surroundings."""


@dataclass(eq=False)
class Node:
    """One daemon of the demo. `status` is its last answer."""

    number: int
    home: Path
    process: trio.Process
    status: dict[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.process.returncode

    @property
    def state(self) -> str:
        """What it last said, or how it ended."""
        if self.exit_code is not None:
            return "finished" if self.exit_code == 0 else f"died ({self.exit_code})"
        return str(self.status.get("state") or "starting")

    def part(self, name: str) -> dict[str, Any]:
        """ "trainer", "ledger" or "network" of the last status; empty where there is none yet."""
        return dict(self.status.get(name) or {})

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.home / "output.log"

    def log_tail(self, lines: int = 12) -> str:
        """The end of its log."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            return f"(no log: {error.strerror})"
        return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"

    def read_summary(self) -> None:
        """Take the status that the daemon left behind when it ended."""
        for path in self.home.glob(f"*/{SUMMARY_FILE}"):
            # Where it cannot be read the last answer stays; that may be a second old.
            with suppress(OSError, ValueError, KeyError, TypeError):
                self.status = dict(json.loads(path.read_text(encoding="utf-8"))["status"])


class Swarm:
    """All daemons of one demo. Use `open_swarm`."""

    def __init__(self, guard: _Guard, client: httpx.AsyncClient) -> None:
        self.nodes: list[Node] = []
        self._guard = guard
        self._client = client

    async def start(self, command: Sequence[str], home: Path, flags: Sequence[str]) -> Node:
        """Start one more daemon: `command` run --home `home` and the flags."""
        await trio.Path(home).mkdir(parents=True)
        environment = {name: value for name, value in os.environ.items() if name not in _WITHHELD}
        environment["LEARNAE_LIMITS_ON_BATTERY"] = "run"  # it is short, and was asked for just now
        with (home / "output.log").open("wb") as output:
            # A session of its own, so that the terminal's Ctrl+C reaches the demo alone, which then ends them in order.
            process = await trio.lowlevel.open_process(
                [*command, "run", "--home", str(home), *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self._guard.watch(process.pid)
        node = Node(len(self.nodes) + 1, home, process)
        self.nodes.append(node)
        return node

    def running(self) -> Iterator[Node]:
        """The nodes whose processes live. Those that have ended are told off the guard's list."""
        for node in self.nodes:
            if node.process.poll() is None:
                yield node
            else:
                self._guard.forget(node.process.pid)

    async def poll(self) -> None:
        """Ask every running node for its status; one that does not answer keeps its last."""
        async with trio.open_nursery() as nursery:
            for node in self.running():
                nursery.start_soon(self._poll, node)

    async def _poll(self, node: Node) -> None:
        for daemon in daemons.find(node.home):
            try:
                answer = await self._client.get(f"{daemon.url}/api/status")
                if answer.is_success:
                    node.status = answer.json()
            except (httpx.HTTPError, ValueError):
                pass

    async def command(self, verb: str) -> None:
        """Send a verb to all running nodes at once. One that cannot take it will be seen not to end."""
        async with trio.open_nursery() as nursery:
            for node in self.running():
                nursery.start_soon(self._command, node, verb)

    async def _command(self, node: Node, verb: str) -> None:
        for daemon in daemons.find(node.home):
            try:
                token = (daemon.directory / "token").read_text(encoding="utf-8")
                await self._client.post(f"{daemon.url}/api/{verb}", headers={"Authorization": f"Bearer {token}"})
            except (httpx.HTTPError, OSError):
                pass

    async def end(self) -> None:
        """End what still runs: SIGTERM, then SIGKILL for a daemon, and for what it may have left in its group."""
        left = list(self.running())
        for node in left:
            node.process.terminate()
        with trio.move_on_after(PATIENCE):
            for node in left:
                await node.process.wait()
        for node in left:
            if node.process.poll() is None:
                node.process.kill()
            if os.name == "posix":
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(node.process.pid, signal.SIGKILL)
            await node.process.wait()
            self._guard.forget(node.process.pid)


class _Guard:
    """The line to the guard process. On Windows, which has no process groups of this kind, there is none."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._known: set[int] = set()
        if os.name == "posix":
            self._process = subprocess.Popen(
                [sys.executable, "-m", "learnae.cli.demo.guard"], stdin=subprocess.PIPE, start_new_session=True
            )

    def watch(self, pid: int) -> None:
        self._known.add(pid)
        self._write(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        if pid in self._known:
            self._known.remove(pid)
            self._write(f"-{pid}\n")

    def _write(self, line: str) -> None:
        if self._process is not None:
            pipe = self._pipe()
            try:
                pipe.write(line.encode())
                pipe.flush()
            except BrokenPipeError:
                pass  # Somebody killed the guard; the demo itself still ends its daemons.

    def _pipe(self) -> IO[bytes]:
        assert self._process is not None and self._process.stdin is not None
        return self._process.stdin

    def close(self) -> None:
        if self._process is not None:
            self._pipe().close()
            self._process.wait()


@asynccontextmanager
async def open_swarm() -> AsyncIterator[Swarm]:
    """A swarm that is ended, to the last process, when the block is left in whatever way."""
    guard = _Guard()
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            swarm = Swarm(guard, client)
            try:
                yield swarm
            finally:
                with trio.CancelScope(shield=True):
                    await swarm.end()
    finally:
        guard.close()
