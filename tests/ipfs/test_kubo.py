"""Blocks to and from Kubo's own code, over Bitswap."""

from __future__ import annotations

from base64 import b32decode
from pathlib import Path
from random import Random

import base58
import pytest
import trio

from tests.ipfs.dag import Blocks, cid_of, links_in, text
from tests.ipfs.kubo import MISSING, kubo
from tests.network.support import start, until

pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")


def parsed(cid: str) -> bytes:
    """A CID in Kubo's spelling: version 0 in base 58, version 1 in base 32."""
    if cid.startswith("Qm"):
        return b"\x01\x70" + base58.b58decode(cid)
    return b32decode(cid[1:].upper() + "=" * (-len(cid[1:]) % 8))


async def test_kubo_fetches_and_pins_a_dag_that_only_we_hold(nursery: trio.Nursery, tmp_path: Path) -> None:
    data = Random(1).randbytes(50 * 1024 * 1024 + 17)  # two levels of nodes above the leaves
    blocks = Blocks()
    root = text(blocks.put_file(data))
    ours = await start(nursery, "ours")
    ours.network.serve_blocks(blocks)
    async with kubo(tmp_path / "kubo") as node:
        await node.connect(ours.network.addresses[0])
        with trio.fail_after(60):
            await node.pin(root)
        assert any(root in pin for pin in await node.pins())
        await node.get(root, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    assert len(blocks.given) == len(set(blocks.given)) == len(blocks.held)
    assert ours.network.block_statistics().malformed == 0


async def test_we_fetch_what_only_kubo_holds(nursery: trio.Nursery, tmp_path: Path) -> None:
    data = Random(2).randbytes(50 * 1024 * 1024 + 17)
    (tmp_path / "file").write_bytes(data)
    ours = await start(nursery, "ours")
    async with kubo(tmp_path / "kubo") as node:
        root = parsed(await node.add(tmp_path / "file"))
        ours.network.learn_addresses(node.peer, [node.address])
        await until(lambda: node.peer in ours.network.connected())
        size = 0
        with ours.network.session([node.peer]) as session, trio.fail_after(60):
            async for cid, block in session.fetch([root]):
                assert cid == cid_of(cid[1], block)
                session.want(links_in(cid, block))
                size += 0 if links_in(cid, block) else len(block)
            assert session.statistics().duplicates == 0
            assert session.statistics().dropped == {}
        assert size >= len(data)


async def test_kubo_says_that_it_lacks_a_block(nursery: trio.Nursery, tmp_path: Path) -> None:
    ours, other = await start(nursery, "ours"), await start(nursery, "other")
    blocks = Blocks()
    cid = blocks.put(b"only the other has it")
    other.network.serve_blocks(blocks)
    async with kubo(tmp_path / "kubo") as node:
        ours.network.learn_addresses(node.peer, [node.address])
        await until(lambda: node.peer in ours.network.connected())
        with ours.network.session([node.peer]) as session, trio.fail_after(30):
            session.want([cid])
            await until(lambda: session.statistics().peers[node.peer].asked == 0)
            ours.network.learn_addresses(other.network.peer_id, other.network.addresses)
            session.add(other.network.peer_id)
            assert [found async for found in session] == [(cid, b"only the other has it")]
