"""Real daemons as processes: start, watch, hurt and stop them; used by the system tests and the benchmarks."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from netsim import processes
from netsim.namespaces import Lab

ROOT = Path(__file__).resolve().parent.parent
MARK = "NETSIM_SWARM"
POLL = 0.2  # seconds between two looks at a condition
TAIL = 30  # log lines of each daemon in a failure's report

_swarms = itertools.count(1)


class SwarmError(AssertionError):
    """A daemon did not do in time what was waited for; carries the states and the ends of the logs."""


class Unreachable(Exception):
    """The daemon's status endpoint does not answer, yet or now."""


class Node:
    """One daemon: its process, its files and its status endpoint. Made by `Swarm.start`."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], home: Path, log: Path, lab: Lab | None, host: str):
        self.name = name
        self.process = process
        self.pid = process.pid
        self.home = home
        self.log = log
        self.host = host
        self.started = time.monotonic()
        self._lab = lab
        self._profile: Path | None = None

    # What it says

    @property
    def profile(self) -> Path:
        """The profile directory that the daemon took. Raises Unreachable before it has."""
        if self._profile is None:
            for path in self.home.glob("*/status.json"):
                with contextlib.suppress(ValueError, OSError):
                    if json.loads(path.read_text())["pid"] == self.pid:
                        self._profile = path.parent
        if self._profile is None:
            raise Unreachable(f"{self.name} has written no status.json yet")
        return self._profile

    def status(self) -> dict[str, Any]:
        """`GET /api/status`. Raises Unreachable."""
        return self._request("GET", "/api/status")  # type: ignore[no-any-return]

    def peers(self) -> list[dict[str, Any]]:
        """`GET /api/peers`. Raises Unreachable."""
        return self._request("GET", "/api/peers")  # type: ignore[no-any-return]

    def snapshots(self) -> dict[int, dict[str, Any]]:
        """`GET /api/snapshots`: the cuts that it keeps, by interval. Raises Unreachable."""
        return {row["index"]: row for row in self._request("GET", "/api/snapshots")}

    def command(self, verb: str) -> None:
        """POST a verb (finish, snapshots/CID/pin, ...) with the token of the profile directory. Raises Unreachable."""
        token = (self.profile / "token").read_text().strip()
        self._request("POST", f"/api/{verb}", {"Authorization": f"Bearer {token}"})

    def summary(self) -> dict[str, Any]:
        """The last status, which the daemon wrote to `summary.json` when it ended."""
        return json.loads((self.profile / "summary.json").read_text())["status"]  # type: ignore[no-any-return]

    def log_text(self) -> str:
        """Everything that it wrote to standard output and error."""
        return self.log.read_text(errors="replace")

    def messages(self) -> str:
        """The lines that the status shows to the user, joined."""
        return "\n".join(message["text"] for message in self.status()["messages"])

    @property
    def trainer(self) -> int:
        """The trainer's process id. Raises Unreachable while there is none."""
        pid = self.status()["trainer"]["pid"]
        if not pid:
            raise Unreachable(f"{self.name} has no trainer running")
        return int(pid)

    # What is done to it

    def send(self, number: signal.Signals) -> None:
        """Send the daemon a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and collect it."""
        self.process.kill()
        self.process.wait(10)

    def terminate(self, patience: float = 10.0) -> tuple[int, float]:
        """SIGTERM; returns (exit code, seconds until it ended). Raises SwarmError if it does not end in time."""
        began = time.monotonic()
        self.process.terminate()
        return self.exit_code(patience), time.monotonic() - began

    def exit_code(self, patience: float) -> int:
        """Wait for the daemon's end. Raises SwarmError if it does not end in time."""
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise SwarmError(f"{self.name} did not end within {patience} s\n{self.tail()}") from None

    @property
    def running(self) -> bool:
        """Whether the daemon process has not ended."""
        return self.process.poll() is None

    def tail(self) -> str:
        """The end of its log under a heading that says whether it runs."""
        state = "running" if self.running else f"ended with {self.process.returncode}"
        lines = self.log_text().splitlines()[-TAIL:]
        return "\n".join([f"--- {self.name} (process {self.pid}, {state}): {self.log}", *lines])

    def _request(self, method: str, path: str, headers: dict[str, str] | None = None) -> Any:
        url = urlsplit(json.loads((self.profile / "status.json").read_text())["url"])

        def ask() -> Any:
            connection = http.client.HTTPConnection(url.hostname or "127.0.0.1", url.port, timeout=5)
            with contextlib.closing(connection):
                connection.request(method, path, headers=headers or {})
                answer = connection.getresponse()
                body = answer.read()
                if answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
                    raise Unreachable(f"{self.name} has no time for {method} {path}: {body[:300]!r}")
                if answer.status >= 400:
                    raise SwarmError(f"{self.name} answered {answer.status} to {method} {path}: {body[:300]!r}")
                return json.loads(body) if body else None

        try:
            return ask() if self._lab is None else self._lab.call(self.host, ask)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unreachable(f"{self.name} does not answer: {error}") from error


class Swarm:
    """Daemons started together, on loopback or in a lab; a context manager that leaves no process behind.

    Args:
        directory: where homes and logs go.
        lab: network namespaces to start the daemons in. None: this machine's loopback, where mDNS is off
            and every node must be told a peer.
    """

    def __init__(self, directory: Path, lab: Lab | None = None) -> None:
        self.directory = directory
        self.lab = lab
        self.nodes: list[Node] = []
        self.mark = f"{os.getpid()}-{next(_swarms)}"
        _sweep()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(
        self,
        *flags: str,
        host: str = "",
        name: str = "",
        home: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Node:
        """Start `learnaed run FLAGS` and return at once.

        Args:
            flags: as on the command line.
            host: the lab's node to start it in.
            name: for logs and messages; by default its host or "n1", "n2", ...
            home: LEARNAE_HOME; by default one for this daemon alone, so that a second start with the same
                name finds the first one's state.
            environment: variables beside the usual ones.
        """
        name = name or host or f"n{len(self.nodes) + 1}"
        home = home or self.directory / f"home-{name}"
        home.mkdir(parents=True, exist_ok=True)
        log = self.directory / f"{name}-{len(self.nodes) + 1}.log"
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "start_new_session": True}
        argv = [*learnaed(), "run", *flags]
        with log.open("wb") as output:
            options |= {
                "stdout": output,
                "env": {**self._environment(home), **(environment or {})},
                "cwd": self.directory,
            }
            process = subprocess.Popen(argv, **options) if self.lab is None else self.lab.popen(host, argv, **options)
        node = Node(name, process, home, log, self.lab, host)
        self.nodes.append(node)
        return node

    def wait(self, what: str, condition: Callable[[], object], seconds: float, nodes: Sequence[Node] = ()) -> float:
        """Wait until `condition()` is true; returns how long it took. An unreachable daemon counts as not yet.

        Raises:
            SwarmError: not within `seconds`, or one of `nodes` (by default none) ended meanwhile.
        """
        began = time.monotonic()
        why = "it stayed false"
        while True:
            try:
                if condition():
                    return time.monotonic() - began
                why = "it stayed false"
            except Unreachable as error:
                why = str(error)
            ended = [node.name for node in nodes if not node.running]
            if ended or time.monotonic() - began > seconds:
                reason = f"{', '.join(ended)} ended" if ended else f"not within {seconds} s ({why})"
                raise SwarmError(f"waited for {what}: {reason}\n{self.report()}")
            time.sleep(POLL)

    def wait_ready(self, seconds: float = 20, nodes: Sequence[Node] = ()) -> float:
        """Wait until the nodes (default: all that run) have left the state "starting": their trainers are up."""
        nodes = nodes or self.running
        ready = lambda: all(node.status()["state"] != "starting" for node in nodes)  # noqa: E731
        return self.wait("the trainers of all", ready, seconds, nodes)

    def wait_together(self, seconds: float = 40, nodes: Sequence[Node] = ()) -> float:
        """Wait until each of the nodes (default: all that run) is in the same swarm as all the others."""
        nodes = nodes or self.running
        return self.wait(f"{len(nodes)} nodes to be one swarm", lambda: together(nodes), seconds, nodes)

    def wait_equal(self, seconds: float = 40, nodes: Sequence[Node] = ()) -> dict[str, Any]:
        """Pause the nodes (default: all that run), wait until they hold the same updates and the same weights.

        Returns the status of the first. Call `resume` to go on.
        """
        nodes = nodes or self.running
        for node in nodes:
            node.command("pause")
        self.wait(f"equal ledgers and replicas of {len(nodes)} paused nodes", lambda: equal(nodes), seconds, nodes)
        return nodes[0].status()

    def wait_rounds(self, rounds: int, seconds: float, nodes: Sequence[Node] = ()) -> float:
        """Wait until each of the nodes (default: all that run) has finished so many rounds since it started."""
        nodes = nodes or self.running
        condition = lambda: all(n.status()["trainer"]["rounds"] >= rounds for n in nodes)  # noqa: E731
        return self.wait(f"{rounds} rounds of each", condition, seconds, nodes)

    def resume(self, nodes: Sequence[Node] = ()) -> None:
        """Let paused nodes go on."""
        for node in nodes or self.running:
            node.command("resume")

    def finish(self, seconds: float = 60) -> list[dict[str, Any]]:
        """Ask every running node to finish, wait for exit code 0, return their summaries.

        Raises:
            SwarmError: one did not end in time, or with another code.
        """
        nodes = self.running
        for node in nodes:
            node.command("finish")
        deadline = time.monotonic() + seconds
        codes = {node.name: node.exit_code(max(0.1, deadline - time.monotonic())) for node in nodes}
        if any(codes.values()):
            raise SwarmError(f"exit codes after finish: {codes}\n{self.report()}")
        return [node.summary() for node in nodes]

    @property
    def running(self) -> list[Node]:
        """The nodes whose daemon has not ended."""
        return [node for node in self.nodes if node.running]

    def processes(self) -> list[int]:
        """Every living process that this swarm's daemons started, themselves included, whoever is its parent now."""
        return processes.marked(MARK, self.mark)

    def strays(self) -> dict[int, str]:
        """Command lines of the processes that belong to no running daemon."""
        families = {pid for node in self.running for pid in (node.pid, *processes.descendants(node.pid))}
        return {pid: processes.command_line(pid) for pid in self.processes() if pid not in families}

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to one process of this swarm, a trainer for instance.

        Raises:
            ProcessLookupError: it is none of this swarm's, or gone.
        """
        if pid not in self.processes():
            raise ProcessLookupError(f"process {pid} does not belong to this swarm")
        os.kill(pid, number)

    def report(self) -> str:
        """States and ends of the logs of all daemons, for a failure's message."""
        return "\n".join(line for node in self.nodes for line in (_state(node), node.tail()))

    def close(self) -> None:
        """Kill every process of the swarm; harmless when repeated."""
        deadline = time.monotonic() + 5
        while (left := self.processes()) and time.monotonic() < deadline:
            processes.kill(left)
            time.sleep(0.02)
        for node in self.nodes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.process.wait(1)

    def _environment(self, home: Path) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("LEARNAE_")}
        data = {key: os.environ[key] for key in ("LEARNAE_DATA",) if key in os.environ}
        path = os.pathsep.join([str(ROOT), str(ROOT / "daemon")])
        own = {"HOME": str(self.directory), "LEARNAE_HOME": str(home), "LEARNAE_TORCH_THREADS": "1"}
        own["LEARNAE_IPFS"] = "off"  # nothing of an experiment goes into a node of the user's
        own["LEARNAE_LIMITS_ON_BATTERY"] = "run"  # an experiment on a laptop goes on
        return kept | data | own | {MARK: self.mark, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def learnaed() -> list[str]:
    """The command that starts the daemon: the installed script, or the module of this checkout."""
    script = Path(sys.executable).with_name("learnaed")
    return [str(script)] if shutil.which(script) else [sys.executable, "-m", "learnaed"]


def together(nodes: Sequence[Node]) -> bool:
    """Whether the nodes name the same swarm and each has all the others among its connected peers."""
    states = [node.status() for node in nodes]
    own = {state["peer"] for state in states}
    if len({state["swarm"] for state in states}) != 1 or states[0]["swarm"] is None:
        return False
    return all(
        own - {state["peer"]} <= {p["peer"] for p in node.peers() if p["connected"] and p["swarm_match"]}
        for node, state in zip(nodes, states, strict=True)
    )


def equal(nodes: Sequence[Node]) -> bool:
    """Whether the nodes hold the same set of updates and bit-identical replicas, with nothing missing."""
    states = [node.status() for node in nodes]
    vectors = {state["ledger"]["vector_digest"] for state in states}
    replicas = {state["trainer"]["digest"] for state in states}
    return len(vectors) == len(replicas) == 1 and None not in replicas


def _state(node: Node) -> str:
    try:
        status = node.status()
    except (Unreachable, SwarmError, OSError) as error:
        return f"--- {node.name}: {error}"
    keys = ("state", "swarm", "slot", "trainer", "ledger", "refused", "network")
    return f"--- {node.name}: {json.dumps({key: status.get(key) for key in keys})}"


def _sweep() -> None:
    """Kill the daemons of swarms whose owner is gone."""
    for mark in processes.marks(MARK):
        if not processes.alive(int(mark.partition("-")[0])):
            processes.kill(processes.marked(MARK, mark))
