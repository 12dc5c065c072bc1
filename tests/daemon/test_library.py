"""What a node gives to whoever asks by CID: parts of updates that count, manifests, snapshots, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from learnae import unixfs
from learnae.cid import DAG_CBOR, DAG_PB, RAW, codec_of, make_cid, raw_cid
from learnae.coordinator import actions
from learnae.ledger import Entry
from learnae.snapshot import write
from learnae.unixfs import LEAF
from learnaed.blockstore import BlockStore
from learnaed.library import Library
from learnaed.snapshots import Shelf
from learnaed.store import Store
from tests.core.stored import AUTHOR, BLOCK, SWARM, cut, manifest, store, update


class Rig:
    def __init__(self, directory: Path) -> None:
        self.store = Store(directory / "db.sqlite", AUTHOR)
        self.snapshots = BlockStore(directory / "snapshots")
        self.library = Library(self.store, Shelf(self.snapshots))

    async def gives(self, cid: bytes) -> bytes | None:
        """What it gives; what it says of the size fits."""
        block = await self.library.get(cid)
        assert await self.library.has(cid) == (None if block is None else len(block))
        return block


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.store.close()
    made.snapshots.close()


async def test_a_snapshot_leaf_by_leaf(rig: Rig) -> None:
    data = bytes(LEAF) + b"end"
    root = write(rig.snapshots.blocks, [data]).cid
    cids = [step.cid for step in unixfs.walk(root, rig.snapshots.get)]
    blocks = [await rig.gives(cid) or b"" for cid in cids]
    assert [make_cid(codec_of(cid), block) for cid, block in zip(cids, blocks, strict=True)] == cids
    assert b"".join(blocks[1:]) == data


async def test_parts_and_manifests(rig: Rig) -> None:
    rig.store.carry_out([store(update(1, (BLOCK,)), (BLOCK,)), cut(0)])
    assert await rig.gives(raw_cid(BLOCK)) == BLOCK
    assert codec_of(manifest(0).cid) == DAG_CBOR
    assert await rig.gives(manifest(0).cid) == manifest(0).encode()
    assert await rig.gives(manifest(1).cid) is None
    for codec in (RAW, DAG_PB, DAG_CBOR):
        assert await rig.gives(make_cid(codec, b"unknown")) is None


async def test_not_what_was_dropped_or_not_admitted(rig: Rig) -> None:
    signed = update(1, (BLOCK,))
    rig.store.carry_out([store(signed, (BLOCK,)), actions.Drop(SWARM, (Entry.of(signed),))])
    rig.store.put([b"arriving"])
    assert await rig.gives(raw_cid(BLOCK)) is None
    assert await rig.gives(raw_cid(b"arriving")) is None


async def test_not_what_is_damaged(rig: Rig) -> None:
    root = write(rig.snapshots.blocks, [b"weights"]).cid
    (path,) = [path for path in rig.snapshots.blocks.directory.rglob("*") if path.is_file()]
    path.write_bytes(b"weighty")
    assert await rig.library.get(root) is None
    assert await rig.gives(root) is None
