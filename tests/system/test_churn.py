"""Nodes vanish, freeze and arrive; the others never wait. In network namespaces, found by mDNS alone."""

from __future__ import annotations

import signal
import time

import pytest

from netsim.daemons import Node, Swarm
from tests.lab import DIGITS, LEARNED

pytestmark = pytest.mark.netns
SLOT = 1.0  # seconds, of the task digits


def start(swarm: Swarm, k: int) -> Node:
    return swarm.start(*DIGITS, "--shard", f"{k}/3", "--skew", "0.3", host=f"h{k}")


def averaged(node: Node) -> float:
    return float(node.status()["trainer"]["accuracy_averaged"] or 0.0)


def rounds(node: Node) -> int:
    return int(node.status()["trainer"]["rounds"])


@pytest.mark.slow
@pytest.mark.parametrize("hosts", [4], indirect=True)
def test_the_first_node_dies_and_a_new_one_joins(hosts: Swarm) -> None:
    first, second, third = (start(hosts, k) for k in (1, 2, 3))
    hosts.wait_together(40)
    hosts.wait_rounds(6, 40)
    first.kill()
    before, began = {node: rounds(node) for node in (second, third)}, time.monotonic()
    hosts.wait("6 more rounds of the survivors", lambda: all(rounds(n) >= before[n] + 6 for n in before), 30)
    assert time.monotonic() - began < 4 * 6 * SLOT, "the survivors paused"
    joiner = hosts.start(*DIGITS, "--shard", "1/3", "--skew", "0.3", host="h4")
    hosts.wait_together(40, [second, third, joiner])
    hosts.wait_rounds(3, 40, [joiner])
    # The running average: the exact weights swing by several points between two rounds of so small a swarm.
    alive = (second, third, joiner)
    hosts.wait("all to have learned", lambda: all(averaged(node) > LEARNED for node in alive), 40)
    status = hosts.wait_equal(40)
    assert status["ledger"]["authors"] == 4, "the updates of the dead node count for ever"


@pytest.mark.parametrize("hosts", [3], indirect=True)
@pytest.mark.slow
@pytest.mark.parametrize("seconds", [6, 20])
def test_a_frozen_node_holds_nobody_up_and_catches_up(hosts: Swarm, seconds: float) -> None:
    first, second, frozen = (start(hosts, k) for k in (1, 2, 3))
    hosts.wait_together(40)
    hosts.wait_rounds(2, 30)
    family = [frozen.pid, frozen.trainer]
    before = {node: rounds(node) for node in (first, second)}
    for pid in family:
        hosts.signal(pid, signal.SIGSTOP)
    time.sleep(seconds)
    progress = {node.name: rounds(node) - count for node, count in before.items()}
    for pid in family:
        hosts.signal(pid, signal.SIGCONT)
    assert min(progress.values()) >= seconds / SLOT / 3, f"rounds while a node was frozen: {progress}"
    hosts.wait_rounds(rounds(frozen) + 2, 40, [frozen])
    hosts.wait_equal(40)


@pytest.mark.parametrize("hosts", [3], indirect=True)
def test_a_node_behind_a_cut_cable_goes_on_alone_and_merges_later(hosts: Swarm) -> None:
    assert hosts.lab is not None
    for k in (1, 2, 3):
        start(hosts, k)
    hosts.wait_together(40)
    hosts.lab.cut("h3")
    before = {node: rounds(node) for node in hosts.nodes}
    hosts.wait("4 rounds on both sides of the cut", lambda: all(rounds(n) >= before[n] + 4 for n in before), 30)
    hosts.lab.heal()
    status = hosts.wait_equal(60)
    assert status["ledger"]["authors"] == 3
