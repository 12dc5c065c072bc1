"""Fixtures and checks that the system tests share; the daemons themselves are started by `netsim.daemons`."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsim.daemons import Node, Swarm
from netsim.namespaces import Lab

LOCAL = ("--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--status-port", "0")
DIGITS = ("--topic", "t", "--task", "digits")
TASKS = Path(__file__).parent / "system" / "tasks.py"
LEARNED = 0.9  # accuracy on digits that says "it has learned", far above a shard that misses classes


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    """Daemons on this machine's loopback; see `start_local`."""
    with Swarm(tmp_path) as swarm:
        yield swarm
        end(swarm)


@pytest.fixture
def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Swarm]:
    """Daemons in network namespaces; indirect parameter: how many (default 3)."""
    with Lab(getattr(request, "param", 3)) as lab, Swarm(tmp_path, lab) as swarm:
        yield swarm
        end(swarm)


def end(swarm: Swarm) -> None:
    """Stop what still runs, and fail unless every daemon exits with 0 and takes its whole family along."""
    nodes = swarm.running
    for node in nodes:
        node.send(signal.SIGTERM)
    assert {node.name: node.exit_code(15) for node in nodes} == dict.fromkeys((node.name for node in nodes), 0)
    no_orphans(swarm)


def no_orphans(swarm: Swarm, seconds: float = 5) -> None:
    """Fail if a process outlives its daemon by more than `seconds`."""
    deadline = time.monotonic() + seconds
    while swarm.strays() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not swarm.strays()


def start_local(swarm: Swarm, *flags: str, peer: Node | None = None, name: str = "") -> Node:
    """Start a daemon on loopback that trains digits, unless the flags say otherwise, and dials `peer`."""
    known = ("--peer", address(peer)) if peer else ()
    task = DIGITS if "--task" not in flags else ()
    return swarm.start(*task, *LOCAL, *flags, *known, name=name)


def address(node: Node) -> str:
    """A multiaddr that the node listens on, with its peer id at the end. Raises Unreachable."""
    status = node.status()
    listen = str(status["listen"][0])
    return listen if "/p2p/" in listen else f"{listen}/p2p/{status['peer']}"


def port(node: Node) -> int:
    """The TCP port that the node listens on."""
    parts = address(node).split("/")
    return int(parts[parts.index("tcp") + 1])


def dial(node: Node) -> socket.socket:
    """A bare TCP connection to the node's port on loopback."""
    return socket.create_connection(("127.0.0.1", port(node)), timeout=5)
