"""Peers that do not match, peers that come late, and strangers that send rubbish."""

from __future__ import annotations

import contextlib
import random
import struct
import time

from netsim import processes
from netsim.daemons import Node, Swarm, together
from tests.lab import TASKS, dial, start_local


def others(node: Node, other: Node) -> dict[str, object]:
    """What `node` shows of the peer `other`."""
    [entry] = [peer for peer in node.peers() if peer["peer"] == other.status()["peer"]]
    return dict(entry)


def test_a_mismatch_is_named_on_both_sides_and_both_go_on(swarm: Swarm) -> None:
    wide = start_local(swarm, name="wide")
    swarm.wait("its address", lambda: wide.status()["listen"], 20, [wide])
    narrow = start_local(swarm, "--topic", "t", "--task", f"{TASKS}:Narrow", peer=wide, name="narrow")
    swarm.wait(
        "both to show the problem",
        lambda: all(any(peer["problem"] for peer in node.peers()) for node in swarm.nodes),
        40,
        swarm.nodes,
    )
    for node, other, own_shape, other_shape in (
        (wide, narrow, "(128, 64)", "(64, 64)"),
        (narrow, wide, "(64, 64)", "(128, 64)"),
    ):
        entry = others(node, other)
        problem = str(entry["problem"])
        assert entry["swarm_match"] is False
        assert "tensor '0.weight'" in problem and own_shape in problem and other_shape in problem, problem
        assert problem.index(own_shape) < problem.index(other_shape), "here first, there second"
        assert "0.weight" in node.log_text()
    assert wide.status()["swarm"] != narrow.status()["swarm"]
    before = {node: node.status()["trainer"]["rounds"] for node in swarm.nodes}
    swarm.wait("both to go on", lambda: all(n.status()["trainer"]["rounds"] >= before[n] + 2 for n in before), 20)
    assert all(node.status()["ledger"]["authors"] == 1 for node in swarm.nodes)


def test_they_are_one_swarm_before_anybody_has_published(swarm: Swarm) -> None:
    first = start_local(swarm, "--shard", "1/2", "--paused", name="first")
    swarm.wait("its address", lambda: first.status()["listen"], 20, [first])
    start_local(swarm, "--shard", "2/2", "--paused", peer=first, name="second")
    swarm.wait_together(40)
    status = swarm.wait_equal(10)
    assert (status["ledger"]["updates"], status["members"]) == (0, 1)
    swarm.resume()
    swarm.wait_rounds(1, 30)
    assert all(node.status()["share"] <= 0.75 for node in swarm.nodes), "a share of the work, not all of it"


def test_it_trains_alone_says_so_and_merges_when_a_peer_comes(swarm: Swarm) -> None:
    first = start_local(swarm, "--shard", "1/2", name="first")
    swarm.wait("training alone", lambda: first.status()["state"] == "alone", 30, [first])
    swarm.wait("a word about it", lambda: "alone" in first.messages().lower(), 10, [first])
    swarm.wait_rounds(3, 30)
    second = start_local(swarm, "--shard", "2/2", peer=first, name="second")
    swarm.wait_together()
    swarm.wait("both to be in company", lambda: {n.status()["state"] for n in swarm.nodes} == {"training"}, 20)
    swarm.wait_rounds(2, 30, [second])
    assert swarm.wait_equal()["ledger"]["authors"] == 2


def test_rubbish_on_the_port_harms_nobody(swarm: Swarm) -> None:
    first = start_local(swarm, "--shard", "1/2", name="first")
    swarm.wait("its address", lambda: first.status()["listen"], 20, [first])
    start_local(swarm, "--shard", "2/2", peer=first, name="second")
    swarm.wait_together()
    memory = processes.resident(first.pid)
    rng = random.Random(0)
    multistream = b"\x13/multistream/1.0.0\n"
    attacks = [
        *(rng.randbytes(rng.randrange(1, 5000)) for _ in range(20)),
        struct.pack(">I", 100_000_000) + rng.randbytes(1 << 16),  # a 100 MB frame of the common kind
        b"\xff\xff\xff\x2f" + rng.randbytes(1 << 16),  # the same length as a varint
        multistream + b"\x07/noise\n" + b"\xff\xff" + rng.randbytes(1 << 16),  # a full Noise message of noise
        multistream + b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",  # a varint without end
        multistream + b"\x0b/plaintext\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    held = []
    for attack in attacks:
        connection = dial(first)
        held.append(connection)
        with contextlib.suppress(OSError):
            connection.sendall(attack)
    before = {node: node.status()["trainer"]["rounds"] for node in swarm.nodes}
    swarm.wait("both to go on", lambda: all(n.status()["trainer"]["rounds"] >= before[n] + 3 for n in before), 30)
    assert together(swarm.nodes)
    assert processes.resident(first.pid) - memory < 30e6
    # Whoever says nothing sensible is hung up on, and does not hold a socket for ever.
    deadline = time.monotonic() + 30
    for connection in held:
        connection.settimeout(max(0.1, deadline - time.monotonic()))
        with contextlib.suppress(ConnectionError):
            while connection.recv(1 << 16):
                pass
        connection.close()
    swarm.wait_equal()
