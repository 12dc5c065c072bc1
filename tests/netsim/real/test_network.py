from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from netsim import processes
from netsim.errors import RealError
from netsim.namespaces import NETNS, LabError
from netsim.real import network
from netsim.real.network import Kernel, SlowLab, check, kernel, qdiscs
from netsim.scenario import Link

ALL = Kernel(tbf=True, netem=True, tap=True)
HOME = Link(latency=0.02, jitter=0.005, up=1e6, down=4e6, loss=0.01)


def test_rates_become_token_buckets() -> None:
    [line] = qdiscs("eth0", 1.25e6, HOME, "cable")
    assert line == "qdisc add dev eth0 root tbf rate 10000000bit burst 25000 limit 625000"


def test_a_slow_rate_still_has_room_for_some_frames() -> None:
    [line] = qdiscs("eth0", 1000, HOME, "cable")
    assert line.endswith("burst 15000 limit 15000")


def test_where_the_kernel_has_netem_it_makes_delays_under_the_token_bucket() -> None:
    assert qdiscs("p1", 4e6, HOME, "netem") == [
        "qdisc add dev p1 root handle 1: netem limit 100000 delay 25ms 5ms distribution normal loss 1%",
        "qdisc add dev p1 parent 1:1 handle 2: tbf rate 32000000bit burst 80000 limit 2000000",
    ]


def test_netem_is_left_out_where_nothing_is_delayed() -> None:
    assert len(qdiscs("p1", 4e6, Link(latency=0.0), "netem")) == 1


@pytest.mark.parametrize(
    ("offers", "missing"),
    [(Kernel(False, True, True), "sch_tbf"), (Kernel(True, False, False), "sch_netem.*tun")],
)
def test_what_the_kernel_lacks_is_named(offers: Kernel, missing: str) -> None:
    with pytest.raises(RealError, match=missing):
        check([HOME], offers)


def test_links_without_delay_need_no_netem() -> None:
    check([Link(latency=0.0)], Kernel(True, False, False))


def test_delays_come_from_the_kernel_if_it_can() -> None:
    assert (ALL.delays, Kernel(True, False, True).delays, Kernel(True, False, False).delays) == (
        "netem",
        "cable",
        "none",
    )


def test_without_root_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "unavailable", lambda: "network namespaces need root")
    with pytest.raises(RealError, match="need root"):
        kernel()


def test_without_tc_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "unavailable", lambda: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(RealError, match="iproute2"):
        kernel()


@pytest.fixture
def offers() -> Kernel:
    try:
        found = kernel()
        check([HOME], found)
    except RealError as error:
        pytest.skip(str(error))
    return found


@pytest.fixture
def lab(offers: Kernel) -> Iterator[SlowLab]:
    with SlowLab([Link(latency=0.03, up=1e6, down=1e7), Link(latency=0.01), Link(latency=0.0)], offers) as lab:
        yield lab


def connect(lab: SlowLab, one: str, other: str) -> float:
    """Seconds until the other's kernel has refused a connection: one round trip."""
    began = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        lab.call(one, lambda: socket.create_connection((lab.address(other), 9), timeout=5))
    return time.monotonic() - began


@pytest.mark.netns
def test_frames_take_their_time(lab: SlowLab) -> None:
    connect(lab, "h1", "h2")  # finds the address
    assert 0.08 <= connect(lab, "h1", "h2") < 0.2
    connect(lab, "h3", "h2")
    assert 0.02 <= connect(lab, "h3", "h2") < 0.08


@pytest.mark.netns
def test_bytes_take_their_time(lab: SlowLab) -> None:
    size = 1_000_000
    with (
        lab.call("h3", lambda: socket.create_server((lab.address("h3"), 4000))) as server,
        lab.call("h1", lambda: socket.create_connection((lab.address("h3"), 4000), timeout=20)) as out,
    ):
        incoming, _ = server.accept()
        began, came = time.monotonic(), 0
        sender = threading.Thread(target=lambda: out.sendall(bytes(size)))
        sender.start()
        with incoming:
            while came < size:
                came += len(incoming.recv(65536))
        took = time.monotonic() - began
        sender.join()
    assert 0.8 < took < 3.0  # a second at this rate, of which the bucket forgives the first 20 ms
    assert lab.traffic("h1").sent > size


@pytest.mark.netns
def test_nothing_is_left_behind(offers: Kernel) -> None:
    with SlowLab([HOME, HOME], offers):
        names = {path.name for path in NETNS.iterdir() if path.name.startswith(f"learnae-{os.getpid()}-")}
        assert len(names) == 3
    assert not any((NETNS / name).exists() for name in names)
    assert not [line for pid in processes.descendants(os.getpid()) if "cable" in (line := processes.command_line(pid))]


@pytest.mark.netns
def test_a_link_that_cannot_be_made_leaves_nothing_either(offers: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    before = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    monkeypatch.setattr(network, "qdiscs", lambda *_: ["qdisc add dev nowhere root tbf"])
    with pytest.raises(LabError, match="nowhere"):
        SlowLab([HOME], offers)
    assert subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout == before
