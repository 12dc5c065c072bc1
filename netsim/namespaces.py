"""A network of its own on one Linux machine: namespaces on a bridge; used by the system tests and the benchmarks.

::

    h1 eth0 ──┐
    h2 eth0 ──┼── bridge (in a namespace of its own)
    h3 eth0 ──┘

Nothing of the machine's own network is touched: bridge, links and addresses live inside the namespaces, which have no
route to anywhere else. Needs root and iproute2. What a killed process left behind is removed by the next lab.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

NETNS = Path("/run/netns")
CLONE_NEWNET = 0x40000000
MTU = 1500

_labs = itertools.count(1)
_ours = re.compile(r"learnae-(\d+)-\d+-\w+")


class LabError(RuntimeError):
    """A namespace, link or process of the lab could not be made; says which command failed and why."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that crossed a node's interface since it was made: Ethernet frames without preamble and checksum."""

    sent: int
    received: int

    @property
    def total(self) -> int:
        """Both directions."""
        return self.sent + self.received

    def since(self, earlier: Traffic) -> Traffic:
        """What was added after `earlier`."""
        return Traffic(self.sent - earlier.sent, self.received - earlier.received)


def unavailable() -> str | None:
    """Why no lab can be made here, or None if one can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need iproute2 (`apt-get install iproute2`)"
    probe = f"learnae-{os.getpid()}-0-probe"
    try:
        _ip("netns", "add", probe)
        _ip("-n", probe, "link", "add", "probe", "type", "bridge")
    except LabError as error:
        return f"network namespaces cannot be made here: {error}"
    finally:
        subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)
    return None


class Lab:
    """`nodes` network namespaces h1, h2, ... on one bridge, each with eth0, an address in a private /24, and loopback.

    A context manager; leaving it kills every process inside and removes everything. Raises LabError.
    """

    def __init__(self, nodes: int = 2) -> None:
        if not 1 <= nodes <= 250:
            raise ValueError(f"a lab has 1 to 250 nodes, not {nodes}")
        sweep()
        number = next(_labs)
        self._prefix = f"learnae-{os.getpid()}-{number}"
        self._subnet = f"10.77.{number % 256}"
        self._switch = f"{self._prefix}-switch"
        self._islands = 0
        self.nodes = tuple(f"h{i}" for i in range(1, nodes + 1))
        atexit.register(self.close)
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def address(self, node: str) -> str:
        """The node's IPv4 address on the bridge."""
        return f"{self._subnet}.{self.nodes.index(node) + 1}"

    def call(self, node: str, function: Callable[[], T]) -> T:
        """`function()` in a thread that is inside the node's namespace: sockets that it opens belong to the node."""
        return inside(self._name(node), function)

    def popen(self, node: str, argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
        """`subprocess.Popen` inside the node's namespace."""
        return self.call(node, lambda: subprocess.Popen(argv, **options))

    def run(self, node: str, argv: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[Any]:
        """`subprocess.run` inside the node's namespace."""
        return self.call(node, lambda: subprocess.run(argv, **options))

    def traffic(self, node: str) -> Traffic:
        """The counters of the node's interface."""
        [link] = json.loads(_ip("-n", self._name(node), "-s", "-j", "link", "show", "eth0"))
        counters = link["stats64"]
        return Traffic(sent=counters["tx"]["bytes"], received=counters["rx"]["bytes"])

    def cut(self, *nodes: str) -> None:
        """Move these nodes to a bridge of their own: no frame passes between them and the rest, and nobody is told."""
        self._islands += 1
        island = f"br{self._islands}"
        self._switch_batch(_bridge(island) + [f"link set {self._port(node)} master {island}" for node in nodes])

    def heal(self) -> None:
        """Put every node back on the one bridge."""
        self._switch_batch([f"link set {self._port(node)} master br0" for node in self.nodes])

    def pids(self, node: str) -> list[int]:
        """The processes inside the node's namespace."""
        return [int(pid) for pid in _ip("netns", "pids", self._name(node)).split()]

    def close(self) -> None:
        """Kill what runs inside and remove the namespaces; harmless when repeated."""
        atexit.unregister(self.close)
        for node in self.nodes:
            _remove(self._name(node))
        _remove(self._switch)

    def _name(self, node: str) -> str:
        if node not in self.nodes:
            raise ValueError(f"no node {node!r} in this lab; there are {', '.join(self.nodes)}")
        return f"{self._prefix}-{node}"

    def _port(self, node: str) -> str:
        return f"p{self._name(node).rpartition('-h')[2]}"

    def _build(self) -> None:
        _ip("netns", "add", self._switch)
        self._switch_batch(_bridge("br0"))
        for node in self.nodes:
            name = self._name(node)
            _ip("netns", "add", name)
            self._connect(node)
            self._switch_batch([f"link set {self._port(node)} master br0 up"])
            ip_batch(
                name,
                ["link set lo up", f"addr add {self.address(node)}/24 brd + dev eth0", "link set eth0 up"],
            )

    def _connect(self, node: str) -> None:
        """Make the node's `eth0` and the port of the switch that it leads to; a lab with other cables has its own."""
        # One segment per buffer: a 64 KiB super-frame would count the headers of its 45 frames only once.
        link = f"mtu {MTU} gso_max_segs 1"
        self._switch_batch(
            [f"link add {self._port(node)} {link} type veth peer name eth0 {link} netns {self._name(node)}"]
        )

    def _switch_batch(self, lines: list[str]) -> None:
        ip_batch(self._switch, lines)


def inside(namespace: str, function: Callable[[], T]) -> T:
    """`function()` in a thread that is inside the namespace. Raises LabError, and what `function` raises."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            _enter(namespace)
            outcome.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name=f"in-{namespace}")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def sweep() -> None:
    """Remove the namespaces of labs whose process is gone."""
    if not NETNS.is_dir():
        return
    for path in NETNS.iterdir():
        match = _ours.fullmatch(path.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            _remove(path.name)


def _bridge(name: str) -> list[str]:
    # Without a querier, snooping would stop multicast to nodes that joined long ago.
    return [f"link add {name} type bridge mcast_snooping 0", f"link set {name} up"]


def _enter(name: str) -> None:
    """Move the calling thread, and what it starts, into a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (NETNS / name).open() as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise LabError(f"cannot enter namespace {name}: {os.strerror(code)}")


def _remove(name: str, patience: float = 5.0) -> None:
    if not (NETNS / name).exists():
        return
    deadline = time.monotonic() + patience
    while pids := _ip("netns", "pids", name).split():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        if time.monotonic() > deadline:
            break  # a zombie that its parent has not collected; the namespace can go all the same
        time.sleep(0.02)
    with contextlib.suppress(LabError):
        _ip("netns", "del", name)


def _ip(*arguments: str) -> str:
    return _command(["ip", *arguments])


def ip_batch(namespace: str, lines: list[str]) -> None:
    """Lines of `ip -batch`, inside the namespace. Raises LabError."""
    _command(["ip", "-n", namespace, "-batch", "-"], "\n".join(lines) + "\n")


def _command(argv: list[str], text: str | None = None) -> str:
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"`{' '.join(argv)}` failed: {done.stderr.strip() or done.returncode}")
    return done.stdout
