from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsim.namespaces import NETNS, Lab, LabError, unavailable

pytestmark = pytest.mark.netns
MESSAGE = bytes(1_000_000)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(3) as lab:
        yield lab


def listen(lab: Lab, node: str) -> socket.socket:
    return lab.call(node, lambda: socket.create_server((lab.address(node), 4000)))


def connect(lab: Lab, node: str, to: str) -> socket.socket:
    return lab.call(node, lambda: socket.create_connection((lab.address(to), 4000), timeout=2))


def connect_again(lab: Lab, node: str, to: str) -> socket.socket:
    """For some seconds after an attempt that got no answer the kernel still holds the other for unreachable."""
    for _ in range(5):
        with contextlib.suppress(OSError):
            return connect(lab, node, to)
    return connect(lab, node, to)


def transfer(lab: Lab, source: str, target: str) -> None:
    with listen(lab, target) as server, connect(lab, source, target) as out:
        incoming, _ = server.accept()
        with incoming:
            incoming.settimeout(5)
            out.setblocking(False)
            left = memoryview(MESSAGE)
            received = 0
            while received < len(MESSAGE):
                if left:
                    left = left[out.send(left[:20_000]) :]
                received += len(incoming.recv(1 << 20))


def test_counters_hold_every_byte_with_the_headers_of_each_frame(lab: Lab) -> None:
    before = {node: lab.traffic(node) for node in lab.nodes}
    transfer(lab, "h1", "h2")
    sender, receiver, bystander = (lab.traffic(node).since(before[node]) for node in lab.nodes)
    # Every frame of 1448 bytes of payload has 66 bytes of Ethernet, IP and TCP headers.
    assert sender.sent >= len(MESSAGE) * (1 + 66 / 1448)
    assert receiver.received >= len(MESSAGE) * (1 + 66 / 1448)
    assert sender.sent < 1.2 * len(MESSAGE)
    assert bystander.total < 0.01 * len(MESSAGE)


def test_a_cut_stops_everything_and_healing_restores_it(lab: Lab) -> None:
    with listen(lab, "h1"), listen(lab, "h3"):
        lab.cut("h2", "h3")
        with pytest.raises(OSError):
            connect(lab, "h2", "h1")
        connect(lab, "h2", "h3").close()
        lab.heal()
        connect_again(lab, "h2", "h1").close()


def test_nothing_leads_out(lab: Lab) -> None:
    def dial() -> None:
        socket.create_connection(("192.0.2.1", 80), timeout=2)

    with pytest.raises(OSError, match="unreachable"):
        lab.call("h1", dial)


def test_the_own_network_stays_as_it_was() -> None:
    before = Path("/proc/self/net/dev").read_text().count(":")
    with Lab(2) as lab:
        assert Path("/proc/self/net/dev").read_text().count(":") == before
        assert lab.run("h1", [sys.executable, "-c", "print('in')"], capture_output=True, text=True).stdout == "in\n"


def test_leaving_kills_what_runs_inside_and_removes_the_namespaces() -> None:
    with Lab(2) as lab:
        process = lab.popen("h2", ["sleep", "600"])
        assert lab.pids("h2") == [process.pid]
        own = f"learnae-{os.getpid()}-*"  # others may have labs of their own meanwhile
        names = {path.name for path in NETNS.glob(own)}
    assert process.wait(timeout=5) == -signal.SIGKILL
    gone = names - {path.name for path in NETNS.glob(own)}
    assert len(gone) == 3


def test_the_leftovers_of_a_killed_process_are_swept() -> None:
    script = "import os; from netsim.namespaces import Lab; lab = Lab(1); print(os.getpid()); os.abort()"
    environment = {**os.environ, "PYTHONPATH": ".", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == -signal.SIGABRT, done.stderr
    leftovers = f"learnae-{int(done.stdout)}-*"
    assert len(list(NETNS.glob(leftovers))) == 2
    with Lab(1):
        assert not list(NETNS.glob(leftovers))


def test_errors_name_the_command_or_the_node(lab: Lab) -> None:
    with pytest.raises(ValueError, match="no node 'h9' in this lab"):
        lab.traffic("h9")
    with pytest.raises(LabError, match="ip -n"):
        lab._switch_batch(["link set nosuch up"])


def test_it_says_why_no_lab_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert unavailable() == "network namespaces need root"
