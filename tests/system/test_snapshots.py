"""Real daemons and snapshots: the same CID everywhere, joined from peers that die, and from an IPFS node alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from learnae.cid import from_text
from netsim.daemons import Node, Swarm
from tests.ipfs import js_daemon
from tests.ipfs.kubo import MISSING, kubo
from tests.lab import TASKS, address, start_local

BRISK = ("--task", f"{TASKS}:Brisk", "--topic", "t")
BULKY = ("--task", f"{TASKS}:Bulky", "--topic", "t")
needs_js = pytest.mark.skipif(js_daemon.unavailable() is not None, reason=js_daemon.unavailable() or "")


def wait_for_cuts(swarm: Swarm, nodes: list[Node], count: int, seconds: float) -> int:
    """Wait until the nodes have settled so many cuts in common; the last interval."""

    def common() -> list[int]:
        return sorted(set.intersection(*(set(node.snapshots()) for node in nodes)))

    swarm.wait(f"{count} cuts of {len(nodes)} nodes", lambda: len(common()) >= count, seconds, nodes)
    return common()[-1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_eight_nodes_take_the_same_cut(swarm: Swarm) -> None:
    first = start_local(swarm, *BRISK, "--shard", "1/8", "--paused")
    swarm.wait("its address", lambda: first.status()["listen"], 30, [first])
    others = [start_local(swarm, *BRISK, "--shard", f"{n}/8", "--paused", peer=first) for n in range(2, 9)]
    nodes = [first, *others]
    swarm.wait_together(240, nodes)
    swarm.resume(nodes)
    index = wait_for_cuts(swarm, nodes, 2, 120)
    rows = [node.snapshots()[index] for node in nodes]
    assert len({row["cid"] for row in rows}) == len({row["weights"] for row in rows}) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fresh_node_goes_on_from_a_cut_when_all_others_are_dead(swarm: Swarm) -> None:
    """The files of a dead node are enough; with `--from` it is one cut that counts, not the last state."""
    one = start_local(swarm, *BRISK, name="one")
    index = wait_for_cuts(swarm, [one], 2, 90)
    cut = one.snapshots()[index]
    other = start_local(swarm, *BRISK, "--from", cut["cid"], peer=one, name="other")
    swarm.wait("it to train", lambda: other.status()["trainer"]["rounds"] >= 1, 90, [one, other])
    one.kill()
    other.kill()
    again = start_local(swarm, *BRISK, "--from", cut["cid"], name="other")
    swarm.wait("rounds of it alone", lambda: again.status()["trainer"]["rounds"] >= 2, 90, [again])
    assert again.status()["ledger"]["updates"] > cut["updates"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_js
def test_a_node_starts_from_what_only_an_ipfs_node_holds(swarm: Swarm, tmp_path: Path) -> None:
    with js_daemon.running(tmp_path / "ipfs") as ipfs:
        one = start_local(swarm, *BRISK, "--ipfs", ipfs.api, name="one")
        index = wait_for_cuts(swarm, [one], 2, 90)
        cut = one.snapshots()[index]
        one.command(f"snapshots/{cut['cid']}/pin")  # The swarm moves on; this one is to stay on the IPFS node.
        swarm.wait("its pins on the IPFS node", lambda: settled_on_ipfs(one), 90, [one])
        one.kill()
        fresh = start_local(swarm, *BRISK, "--from", cut["cid"], "--ipfs", ipfs.api, name="fresh")
        swarm.wait("rounds of it", lambda: fresh.status()["trainer"]["rounds"] >= 2, 120, [fresh])
        status = fresh.status()
        assert fresh.snapshots()[index]["weights"] == cut["weights"]
        assert status["ledger"]["updates"] > cut["updates"]
        assert not status["network"]["peers"]


def settled_on_ipfs(node: Node) -> bool:
    ipfs = node.status()["ipfs"]
    return bool(ipfs["state"] == "ok" and ipfs["pins"] >= 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(MISSING is not None, reason=MISSING or "")
async def test_kubo_pins_a_cut_that_only_a_daemon_holds(swarm: Swarm, tmp_path: Path) -> None:
    node = start_local(swarm, *BULKY, name="one")
    index = wait_for_cuts(swarm, [node], 1, 240)
    cut = node.snapshots()[index]
    node.command(f"snapshots/{cut['cid']}/pin")
    async with kubo(tmp_path / "kubo") as other:
        await other.connect(address(node))
        await other.pin(cut["cid"])
        assert any(cut["cid"] in pinned for pinned in await other.pins())
        await other.get(cut["weights"], tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size == cut["size"]
    assert from_text(cut["weights"])


def received(node: Node) -> int:
    """Bytes of blocks that came over Bitswap since its start."""
    return int(node.status()["bitswap"]["bytes_received"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_large_model_is_joined_though_donor_and_joiner_are_killed(swarm: Swarm) -> None:
    first = start_local(swarm, *BULKY, "--shard", "1/4", "--paused", name="first")
    swarm.wait("its address", lambda: first.status()["listen"], 60, [first])
    donors = [first, *(start_local(swarm, *BULKY, "--shard", f"{n}/4", "--paused", peer=first) for n in (2, 3))]
    swarm.wait_together(300, donors)
    swarm.resume(donors)
    index = wait_for_cuts(swarm, donors, 1, 300)
    cut = first.snapshots()[index]
    for donor in donors:
        donor.command("pause")
        donor.command(f"snapshots/{cut['cid']}/pin")
    peers = tuple(flag for donor in donors for flag in ("--peer", address(donor)))

    def start() -> Node:
        return start_local(swarm, *BULKY, "--shard", "4/4", "--from", cut["cid"], *peers, name="joiner")

    joiner = start()
    swarm.wait("a third of it", lambda: received(joiner) > cut["size"] / 3, 120, [joiner, *donors])
    donors[1].kill()
    came = received(joiner)
    joiner.kill()
    joiner = start()
    swarm.wait("the rest", lambda: index in joiner.snapshots(), 240, [joiner, donors[0], donors[2]])
    again = came + received(joiner) - cut["size"]
    assert again < 0.05 * cut["size"], f"{again} bytes came twice"
    assert joiner.snapshots()[index]["weights"] == cut["weights"]
