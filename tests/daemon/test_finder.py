"""A cut is found on the disk, with peers, or on an IPFS node; and what is no cut is not taken."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from learnae import unixfs
from learnae.cid import DAG_CBOR, make_cid, raw_cid, to_text
from learnae.errors import NetworkError, StoreError, WireError
from learnae.manifest import Manifest
from learnaed.blockstore import Lease
from learnaed.ipfs import IpfsNode
from learnaed.network import Network
from learnaed.snapshots import Finder, Progress
from tests.daemon.cuts import Place, content, manifest

Held = Mapping[bytes, bytes]


def held(place: Place, made: Manifest) -> dict[bytes, bytes]:
    return dict(place.archive.blocks(made.cid))


class Session:
    """Peers that hold some blocks, and never have the others."""

    def __init__(self, blocks: Held, given: list[bytes]) -> None:
        self.blocks, self.given = blocks, given
        self.wanted: list[bytes] = []

    def want(self, cids: Iterable[bytes], sizes: Mapping[bytes, int] | None = None) -> None:
        self.wanted += cids

    def fetch(self, cids: Iterable[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
        self.want(cids)
        return self

    ready = 0

    def __aiter__(self) -> Session:
        return self

    async def __anext__(self) -> tuple[bytes, bytes]:
        await trio.lowlevel.checkpoint()
        if not self.wanted:
            raise StopAsyncIteration
        cid = self.wanted.pop(0)
        if cid not in self.blocks:
            raise NetworkError("nobody gives it")
        self.given.append(cid)
        return cid, self.blocks[cid]


class Peers:
    """The part of `Network` that a finder needs."""

    def __init__(self, blocks: Held | None = None) -> None:
        self.blocks = blocks
        self.given: list[bytes] = []
        self.arrived: list[bytes] = []

    def blocks_arrived(self, cids: Iterable[bytes]) -> None:
        self.arrived += cids

    def connected(self) -> tuple[str, ...]:
        return () if self.blocks is None else ("12D3KooWPeer",)

    @contextmanager
    def session(self, peers: Sequence[str], **_: Any) -> Any:
        yield Session(self.blocks or {}, self.given)


class Ipfs:
    """The part of `IpfsNode`."""

    def __init__(self, blocks: Held) -> None:
        self.blocks = blocks

    async def read(self, cid: bytes, seconds: float | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if cid not in self.blocks:
            raise NetworkError("it does not have that block")
        return self.blocks[cid]

    async def fetch(self, root: bytes, keep: Callable[[bytes, bytes], None], limit: int) -> int:
        for cid, block in self.blocks.items():
            if cid[1] != DAG_CBOR:
                limit -= len(block)
                if limit < 0:
                    raise WireError("more than this DAG can have")
                await trio.to_thread.run_sync(keep, cid, block)
        return 0


@pytest.fixture
def there(tmp_path: Path) -> Place:
    place = Place(tmp_path / "there")
    place.settle(0)
    return place


@pytest.fixture
def here(tmp_path: Path) -> Place:
    return Place(tmp_path / "here")


def finder(here: Place, peers: Peers | None = None, ipfs: Ipfs | None = None, known: Held | None = None) -> Finder:
    network = cast(Network, peers or Peers())
    return Finder(here.shelf, network, lambda: cast(IpfsNode | None, ipfs), lambda cid: (known or {}).get(cid))


async def fetched(here: Place, finder: Finder, made: Manifest) -> None:
    assert await finder.cut(to_text(made.cid)) == made.encode()
    assert b"".join(here.store.read(made.weights)) == content(0)
    assert made.weights in here.shelf.cids
    assert here.store.statistics().leases == 0


async def test_what_is_on_the_disk_is_not_asked_for(there: Place) -> None:
    peers = Peers(held(there, manifest(0)))
    await fetched(there, finder(there, peers), manifest(0))
    assert peers.given == []


async def test_the_ledger_knows_manifests_too(here: Place) -> None:
    here.write(0)
    made = manifest(0)
    await fetched(here, finder(here, known={made.cid: made.encode()}), made)


async def test_peers_are_asked_first(there: Place, here: Place) -> None:
    blocks = held(there, manifest(0))
    peers = Peers(blocks)
    await fetched(here, finder(here, peers, Ipfs({})), manifest(0))
    assert set(peers.given) == set(blocks) and len(peers.given) == len(blocks)


async def test_then_the_ipfs_node(there: Place, here: Place) -> None:
    await fetched(here, finder(here, Peers({}), Ipfs(held(there, manifest(0)))), manifest(0))


async def test_without_peers_the_ipfs_node_alone(there: Place, here: Place) -> None:
    await fetched(here, finder(here, None, Ipfs(held(there, manifest(0)))), manifest(0))


async def test_what_peers_began_is_completed_by_the_ipfs_node(there: Place, here: Place) -> None:
    blocks = held(there, manifest(0))
    peers = Peers(dict(list(blocks.items())[:3]))
    await fetched(here, finder(here, peers, Ipfs(blocks)), manifest(0))
    assert len(peers.given) == 3


async def test_blocks_from_an_ipfs_node_are_made_durable_several_at_a_time(
    there: Place, here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    original = Lease.put_all

    def put_all(self: Lease, blocks: Iterable[tuple[int, bytes]]) -> tuple[bytes, ...]:
        batches.append(len(cids := original(self, blocks)))
        return cids

    monkeypatch.setattr(Lease, "put_all", put_all)
    monkeypatch.setattr("learnaed.snapshots.finder.TOGETHER", 3)
    node = Ipfs(held(there, manifest(0)))
    looking = finder(here, None, node)
    seen: list[Progress | None] = []
    fetch = node.fetch

    async def watched(root: bytes, keep: Callable[[bytes, bytes], None], limit: int) -> int:
        size = await fetch(root, keep, limit)
        seen.append(looking.progress)
        return size

    monkeypatch.setattr(node, "fetch", watched)
    await fetched(here, looking, manifest(0))
    assert batches == [3, 1]  # A node and three leaves.
    (at,) = seen
    assert at is not None and (at.size, at.done) == (len(content(0)), 2 * 2**18)
    assert looking.progress is None


async def test_nobody_has_it(here: Place) -> None:
    for peers in (Peers(), Peers({})):
        with pytest.raises(NetworkError, match=r"nobody has the cut bafyrei.*\(--peer, --ipfs\)"):
            await finder(here, peers).cut(to_text(manifest(0).cid))
    with pytest.raises(NetworkError, match="does not have that block"):
        await finder(here, Peers({}), Ipfs({})).cut(to_text(manifest(0).cid))


async def test_peers_have_the_cut_but_not_its_snapshot(here: Place) -> None:
    made = manifest(0)
    with pytest.raises(NetworkError, match="nobody gives it"):
        await finder(here, Peers({made.cid: made.encode()})).cut(to_text(made.cid))
    assert here.archive.cuts() == [] and made.weights not in here.shelf.cids


async def test_an_ipfs_node_that_leaves_a_block_out(there: Place, here: Place) -> None:
    made = manifest(0)
    blocks = held(there, made)
    del blocks[list(blocks)[-1]]
    with pytest.raises(NetworkError, match="has only a part"):
        await finder(here, None, Ipfs(blocks)).cut(to_text(made.cid))
    assert made.weights not in here.shelf.cids


async def test_only_cids_of_cuts_are_looked_for(here: Place) -> None:
    with pytest.raises(WireError, match="is no cut: `learnae snapshots`"):
        await finder(here).cut(to_text(raw_cid(b"leaf")))
    with pytest.raises(WireError, match="not the CID"):
        await finder(here).cut("nonsense")


async def test_a_block_that_is_no_manifest(here: Place) -> None:
    cid = make_cid(DAG_CBOR, b"\x01")
    for place in (finder(here, Peers({cid: b"\x01"})), finder(here, None, Ipfs({cid: b"\x01"}))):
        with pytest.raises(WireError, match="is no cut of a swarm, but something else"):
            await place.cut(to_text(cid))
    assert here.blocks == 0


async def test_a_snapshot_that_is_larger_than_the_cut_says(there: Place, here: Place) -> None:
    made = replace(manifest(0), size=100)
    blocks = held(there, manifest(0)) | {made.cid: made.encode()}
    with pytest.raises(NetworkError, match="this model's are smaller"):
        await finder(here, Peers(blocks)).cut(to_text(made.cid))
    with pytest.raises(WireError, match="more than this DAG can have"):
        await finder(here, None, Ipfs(blocks)).cut(to_text(made.cid))
    assert here.store.pins() == ()


async def test_a_cut_that_claims_the_whole_disk(here: Place) -> None:
    tree: dict[bytes, bytes] = {}

    def put(codec: int, block: bytes) -> bytes:
        tree[make_cid(codec, block)] = block
        return make_cid(codec, block)

    root = unixfs.assemble([(raw_cid(bytes([n])), 2**18) for n in range(174)] * 174, put)
    made = replace(manifest(0), weights=root.cid, size=root.size)
    small = Place(here.store.blocks.directory / "small", cap=2**20)
    for sources in ((Peers(tree | {made.cid: made.encode()}), None), (None, Ipfs({made.cid: made.encode()}))):
        with pytest.raises(StoreError, match="room"):
            await finder(small, *sources).cut(to_text(made.cid))
    assert small.store.statistics().reserved == 0
