"""A real daemon joins while some of its donors cheat, and mends what its own disk damages."""

from __future__ import annotations

import contextlib
import signal
from typing import Any

import pytest
import trio

from learnae.blocks import Blocks
from learnae.cid import RAW, codec_of, digest_of, from_text
from learnae.errors import NetworkError
from learnae.unixfs import walk
from learnaed.network import Limits
from netsim.daemons import Node, Swarm, Unreachable
from tests.lab import TASKS, address, start_local
from tests.network.enemies import Act, Enemy, babble, drip, lie, push
from tests.network.support import start, until

STURDY = ("--task", f"{TASKS}:Sturdy", "--topic", "t")
CAP = 48
"""MiB: room for four snapshots of 10 MB."""


async def wait(swarm: Swarm, *arguments: Any) -> None:
    """`Swarm.wait`, while the enemies go on."""
    await trio.to_thread.run_sync(swarm.wait, *arguments)


async def settled(swarm: Swarm, donor: Node) -> dict[str, Any]:
    """A cut of a donor that has stopped training."""
    await wait(swarm, "a settled cut", donor.snapshots, 90, [donor])
    donor.command("pause")
    cut = max(donor.snapshots().items())[1]
    donor.command(f"snapshots/{cut['cid']}/pin")
    return cut


def stored(node: Node) -> int:
    """Bytes of blocks, with those that are being written."""
    return sum(path.stat().st_size for path in (node.profile / "snapshots" / "blocks").rglob("*") if path.is_file())


class Watch:
    """Looks how much a node stores, again and again."""

    most = 0

    async def run(self, node: Node) -> None:
        while True:
            with contextlib.suppress(OSError, Unreachable):
                self.most = max(self.most, await trio.to_thread.run_sync(stored, node))
            await trio.sleep(0.05)


async def enemies(nursery: trio.Nursery, *acts: Act) -> list[Enemy]:
    made = [Enemy(act) for act in acts]
    for enemy in made:
        await nursery.start(enemy.run)
    return made


def join(swarm: Swarm, cut: dict[str, Any], donor: Node, others: list[Enemy]) -> Node:
    flags = [flag for enemy in others for flag in enemy.flags]
    more = "--snapshot-cap", f"{CAP}MiB", "--paused", *flags
    return start_local(swarm, *STURDY, "--from", cut["cid"], *more, peer=donor, name="joiner")


@pytest.mark.slow
async def test_a_join_among_donors_that_cheat(swarm: Swarm, nursery: trio.Nursery) -> None:
    """Nothing of what they send is kept; and a block that the disk damages afterwards is fetched again."""
    donor, watch = start_local(swarm, *STURDY, name="donor"), Watch()
    others = await enemies(nursery, lie, babble, push, drip)
    cut = await settled(swarm, donor)
    joiner = join(swarm, cut, donor, others)
    nursery.start_soon(watch.run, joiner)
    await wait(swarm, "the cut", lambda: cut["index"] in joiner.snapshots(), 90, [donor, joiner])
    status = joiner.status()
    assert joiner.snapshots()[cut["index"]]["weights"] == cut["weights"]
    assert status["bitswap"]["unwanted"] >= 3 and status["bitswap"]["malformed"] >= 1
    assert status["network"]["dropped"]["malformed-bitswap"] >= 1
    assert all(enemy.asked for enemy in others)
    assert cut["size"] < watch.most <= CAP * 2**20
    root = from_text(cut["weights"])
    blocks = Blocks(joiner.profile / "snapshots" / "blocks")
    steps = [step.cid for step in walk(root, blocks.get)]
    stray = {stored.digest for stored in blocks} - {digest_of(cid) for cid in steps}
    assert len(stray) * 2**18 <= 2 * cut["size"]  # The genesis, manifests.
    await damage_and_mend(swarm, nursery, donor, joiner, next(cid for cid in steps if codec_of(cid) == RAW))


async def damage_and_mend(swarm: Swarm, nursery: trio.Nursery, donor: Node, joiner: Node, leaf: bytes) -> None:
    digest = digest_of(leaf).hex()
    path = joiner.profile / "snapshots" / "blocks" / digest[:2] / digest
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    asker = await start(nursery, "asker")
    peer = joiner.status()["peer"]
    asker.network.learn_addresses(peer, [address(joiner)])
    await until(lambda: peer in asker.network.connected())
    with asker.network.session([peer], limits=Limits(patience=1.0)) as session, pytest.raises(NetworkError):
        [block async for block in session.fetch([leaf])]
    await wait(swarm, "the block", lambda: joiner.status()["snapshots"]["mended"] == 1, 30, [donor, joiner])
    assert path.read_bytes() == sound
    assert joiner.messages().count("damaged on the disk") == 1
    with asker.network.session([peer]) as session:
        assert [block async for block in session.fetch([leaf])] == [(leaf, sound)]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_all_donors_cheat_until_an_honest_one_is_there(swarm: Swarm, nursery: trio.Nursery) -> None:
    donor = start_local(swarm, *STURDY, name="donor")
    others = await enemies(nursery, lie, babble, push, drip)
    cut = await settled(swarm, donor)
    honest = address(donor)
    donor.send(signal.SIGSTOP)
    try:
        joiner = start_local(
            swarm,
            *(*STURDY, "--from", cut["cid"], "--paused", "--peer", honest),
            *(flag for enemy in others for flag in enemy.flags),
            name="joiner",
        )
        for enemy, why in zip(others[1:], ("garbage", "unwanted", "slow"), strict=True):
            given_up = f"peer={enemy.peer}"
            await wait(swarm, f"{why} to be dropped", lambda text=given_up: text in joiner.log_text(), 90, [joiner])
    finally:
        donor.send(signal.SIGCONT)
    await wait(swarm, "the cut", lambda: cut["index"] in joiner.snapshots(), 120, [donor, joiner])
    assert joiner.snapshots()[cut["index"]]["weights"] == cut["weights"]
