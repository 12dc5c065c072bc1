"""Daemons find each other with no address given, and become one swarm, in network namespaces."""

from __future__ import annotations

import pytest

from netsim.daemons import Swarm
from tests.lab import DIGITS, no_orphans

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("hosts", [1], indirect=True)
def test_two_on_one_machine_started_with_nothing_else_meet(hosts: Swarm) -> None:
    home = hosts.directory / "home"
    for k in (1, 2):
        hosts.start(*DIGITS, "--shard", f"{k}/2", host="h1", name=f"n{k}", home=home)
    hosts.wait_together(40)
    assert {node.profile.name for node in hosts.nodes} == {"default", "default-2"}
    hosts.wait_rounds(3, 30)
    status = hosts.wait_equal(30)
    assert status["ledger"]["authors"] == 2


@pytest.mark.parametrize("hosts", [3], indirect=True)
def test_three_on_three_machines_started_with_nothing_else_meet(hosts: Swarm) -> None:
    for k in (1, 2, 3):
        hosts.start(*DIGITS, "--shard", f"{k}/3", host=f"h{k}")
    hosts.wait_together(40)
    hosts.wait_rounds(3, 30)
    status = hosts.wait_equal(30)
    assert status["ledger"]["authors"] == 3
    summaries = hosts.finish(30)
    assert len({summary["trainer"]["digest"] for summary in summaries}) == 1
    assert len({summary["ledger"]["vector_digest"] for summary in summaries}) == 1


def meet(swarm: Swarm) -> None:
    """Start a daemon on every host at the same moment; they must be one swarm, and take each other's updates."""
    assert swarm.lab is not None
    count = len(swarm.lab.nodes)
    for k, host in enumerate(swarm.lab.nodes, 1):
        swarm.start(*DIGITS, "--shard", f"{k}/{count}", host=host)
    swarm.wait_together(60)
    swarm.wait_rounds(1, 30)
    status = swarm.wait_equal(60)
    assert len({node.status()["swarm"] for node in swarm.nodes}) == 1
    assert status["ledger"]["authors"] == count
    for node in swarm.nodes:
        assert node.terminate(15)[0] == 0
    no_orphans(swarm)


@pytest.mark.parametrize("hosts", [4], indirect=True)
def test_started_at_the_same_moment_they_are_one_swarm(hosts: Swarm) -> None:
    meet(hosts)


@pytest.mark.slow
@pytest.mark.parametrize("hosts", [2] * 20 + [4] * 20 + [8] * 20, indirect=True)
def test_started_at_the_same_moment_they_are_one_swarm_twenty_times(hosts: Swarm) -> None:
    meet(hosts)
