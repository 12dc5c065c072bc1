"""Snapshots in the block store: pinned, served, collected; fetched from several peers, resumed, refused."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from learnae import unixfs
from learnae.blocks import Blocks
from learnae.cid import DAG_PB, RAW, digest_of, make_cid, raw_cid
from learnae.errors import NetworkError, StoreError
from learnae.layout import Layout, TensorSpec
from learnae.peer import peer_id
from learnae.snapshot import cut_leaves, header, write
from learnae.unixfs import LEAF, Child
from learnaed.blockstore import BlockStore
from learnaed.snapshots import Download, Progress, Shelf, check_fit
from learnaed.snapshots.download import TOGETHER
from tests.daemon.fakes import FakeSession, key

SIZE = 10 * LEAF + 1234
LIMIT = 2 * SIZE
BLOCKS = 11 + 4 + 2 + 1
"""Leaves and nodes of so large a file, when nodes have three links."""


@pytest.fixture
def clock(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """Virtual time. It would run away while a thread works: what is given to threads is done at once."""

    async def at_once(work: Callable[..., object], *arguments: object) -> object:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    return autojump_clock


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of three links at most, so that small files have several levels."""
    monkeypatch.setattr(unixfs, "MAX_LINKS", 3)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockStore]:
    made = BlockStore(tmp_path / "here")
    yield made
    made.close()


@pytest.fixture
def there(tmp_path: Path) -> Blocks:
    """What others have."""
    return Blocks(tmp_path / "there")


def content(seed: int, size: int = SIZE) -> bytes:
    return random.Random(seed).randbytes(size)


def make(blocks: Blocks, seed: int = 0, size: int = SIZE) -> bytes:
    """A snapshot as a trainer writes it; its root."""
    return write(blocks, [content(seed, size)]).cid


def blocks_of(blocks: Blocks | BlockStore, root: bytes) -> list[bytes]:
    """The CIDs of all its blocks, parents first."""
    return [step.cid for step in unixfs.walk(root, blocks.get)]


def path_of(blocks: Blocks, cid: bytes) -> Path:
    name = digest_of(cid).hex()
    return blocks.directory / name[:2] / name


def damage(blocks: Blocks, cid: bytes) -> None:
    path = path_of(blocks, cid)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lying(blocks: Blocks) -> set[bytes]:
    """The digests of all blocks there."""
    return {stored.digest for stored in blocks}


def digests(cids: Iterable[bytes]) -> set[bytes]:
    return set(map(digest_of, cids))


def shelf_of(store: BlockStore, *roots: bytes) -> Shelf:
    """A shelf with these, after its trainer has started."""
    shelf = Shelf(store)
    shelf.begin_writing()
    assert all(map(shelf.add, roots))
    shelf.end_writing()
    return shelf


# --- the shelf


def test_every_block_of_every_snapshot_is_served(store: BlockStore) -> None:
    sizes = (1, LEAF, LEAF + 1, SIZE)
    roots = [make(store.blocks, seed, size) for seed, size in enumerate(sizes)]
    shelf = shelf_of(store, *roots)
    assert shelf.cids == frozenset(roots)
    for seed, (root, size) in enumerate(zip(roots, sizes, strict=True)):
        found = {cid: shelf.block(cid) or b"" for cid in blocks_of(store, root)}
        assert all(digest_of(make_cid(RAW, block)) == digest_of(cid) for cid, block in found.items())
        leaves = [raw_cid(leaf) for leaf in cut_leaves([content(seed, size)])]
        assert b"".join(found[leaf] for leaf in leaves) == content(seed, size)
    assert shelf.block(raw_cid(b"something else")) is None


def test_it_is_the_same_after_a_start(tmp_path: Path) -> None:
    store = BlockStore(tmp_path)
    kept, foreign = make(store.blocks, 1), make(store.blocks, 2)
    store.pin(foreign, "somebody else's")
    shelf_of(store, kept)
    store.close()
    store = BlockStore(tmp_path)
    assert Shelf(store).cids == {kept}
    store.close()


def test_a_damaged_leaf_is_not_served_and_the_snapshot_found_out(store: BlockStore) -> None:
    bad, whole = make(store.blocks), make(store.blocks, 1)
    shelf = shelf_of(store, bad, whole)
    cids = blocks_of(store, bad)
    damage(store.blocks, cids[7])
    assert [cid for cid in cids if shelf.block(cid) is None] == [cids[7]]
    assert shelf.discard_damaged(bad)
    assert shelf.cids == {whole}
    assert not shelf.discard_damaged(whole)
    assert shelf.cids == {whole}
    shelf.keep_only([whole])
    shelf.store.collect()
    assert lying(store.blocks) == digests(blocks_of(store, whole))


def test_damage_that_nobody_has_met_yet_is_found_out(store: BlockStore) -> None:
    root = make(store.blocks)
    shelf = shelf_of(store, root)
    damage(store.blocks, root)
    assert shelf.discard_damaged(root)
    assert shelf.cids == frozenset()


@pytest.mark.parametrize("which", [0, 1, 7, BLOCKS - 1])
@pytest.mark.parametrize("trouble", ["gone", "damaged"])
def test_half_a_snapshot_is_none(store: BlockStore, trouble: str, which: int) -> None:
    root = make(store.blocks)
    cid = blocks_of(store, root)[which]
    assert len(blocks_of(store, root)) == BLOCKS
    if trouble == "gone":
        path_of(store.blocks, cid).unlink()
    else:
        damage(store.blocks, cid)
        assert store.get(cid) is None
    shelf = Shelf(store)
    assert not shelf.add(root)
    assert shelf.cids == frozenset()
    assert make(store.blocks) == root and shelf.add(root)


def test_what_is_no_file_is_not_added(store: BlockStore) -> None:
    assert not Shelf(store).add(store.blocks.put(DAG_PB, b"no node"))


def test_only_what_is_wanted_stays(store: BlockStore) -> None:
    one, two, given_up = (make(store.blocks, seed) for seed in (1, 2, 3))
    milestone, foreign = make(store.blocks, 4), make(store.blocks, 5)
    shelf = shelf_of(store, one, two, milestone)
    store.pin(milestone, "cut", milestone=True)
    store.pin(foreign, "somebody else's")
    with store.lease() as lease:
        arriving = lease.put(RAW, b"arriving")
        shelf.keep_only([two])
        shelf.store.collect()
        assert shelf.cids == {two, milestone}
        stay = [*blocks_of(store, two), *blocks_of(store, milestone), *blocks_of(store, foreign)]
        assert lying(store.blocks) == digests([*stay, arriving])
    assert not store.has(given_up) and not shelf.add(one)


def test_nothing_goes_while_the_trainer_writes(store: BlockStore) -> None:
    shelf = Shelf(store)
    shelf.begin_writing()
    for seed in range(3):
        draft = make(store.blocks, seed)
        shelf.keep_only([])
        shelf.store.collect()
        assert not store.missing(draft)
        shelf.end_writing()
        shelf.end_writing()
        shelf.keep_only([])
        shelf.store.collect()
        assert lying(store.blocks) == set()
        shelf.begin_writing()
        shelf.begin_writing()
    assert store.statistics().leases == 1


def test_a_cut_that_there_is_no_room_for_is_not_begun(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, cap=2 * SIZE)
    shelf = shelf_of(store, make(store.blocks))
    with pytest.raises(StoreError, match="no room"):
        shelf.begin_writing(size=2 * SIZE)
    assert store.statistics().leases == 0
    shelf.keep_only([])
    shelf.store.collect()
    shelf.begin_writing(size=SIZE)
    assert store.statistics().reserved == SIZE
    shelf.end_writing()
    assert store.statistics().reserved == 0
    store.close()


def test_each_of_two_snapshots_that_are_being_written_is_protected_until_its_own_end(store: BlockStore) -> None:
    shelf = shelf_of(store)
    shelf.begin_writing((4, 1), SIZE)
    shelf.begin_writing((5, 2), SIZE)
    second = make(store.blocks, 2)
    shelf.end_writing((4, 1))
    assert not store.collect().finished and not store.missing(second)
    assert shelf.add(second)
    shelf.end_writing((5, 2))
    shelf.end_writing((5, 2))
    assert store.statistics().leases == store.statistics().reserved == 0
    assert store.collect().finished and not store.missing(second)
    for what in range(3):
        shelf.begin_writing(what)
    shelf.end_all_writing()
    assert store.statistics().leases == 0


def test_milestones_give_way_to_what_is_new_the_oldest_first(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, cap=3 * SIZE + SIZE // 2, margin=0)
    old, new, wanted = (make(store.blocks, seed) for seed in range(3))
    shelf = shelf_of(store, old, new, wanted)
    for root in (old, new):
        store.pin(root, "cut", milestone=True)
    shelf.begin_writing(size=SIZE)
    assert shelf.cids == {new, wanted} and store.missing(old)
    shelf.end_writing()
    with pytest.raises(StoreError, match="no room"):
        shelf.begin_writing(size=3 * SIZE)
    assert shelf.cids == {wanted} and not store.missing(wanted)
    assert not shelf.give_way()
    store.close()


def test_what_cannot_be_deleted_does_not_stop_the_rest(store: BlockStore, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = make(store.blocks, 1), make(store.blocks, 2)
    shelf = shelf_of(store, one, two)
    stuck = path_of(store.blocks, one)
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == stuck:
            raise PermissionError("read-only")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    shelf.keep_only([])
    shelf.store.collect()
    assert lying(store.blocks) == {digest_of(one)}
    assert shelf.cids == frozenset()


LAYOUT = Layout((TensorSpec("w", (10,), "float32"), TensorSpec("b", (3,), "float32")))


@pytest.mark.parametrize(
    ("exponents", "weights", "fits"),
    [((-24, -23), 13, True), ((-24, -23), 12, False), ((-24, -23), 14, False), ((-24, 97), 13, False)],
)
def test_what_fits_a_model(exponents: tuple[int, ...], weights: int, fits: bool) -> None:
    data = header(LAYOUT, exponents) + bytes(4 * weights)
    if fits:
        return check_fit(LAYOUT, iter([data]), len(data))
    with pytest.raises(StoreError):
        check_fit(LAYOUT, iter([data]), len(data))


# --- the download


class Peer:
    """Gives the blocks in a directory, and no more than `most` of them."""

    def __init__(self, blocks: Blocks, most: int | None) -> None:
        self._blocks = blocks
        self._most = most
        self.given: list[bytes] = []

    async def get(self, cid: bytes) -> bytes | None:
        block = self._blocks.get(cid)
        if block is None or self._most == len(self.given):
            return None
        self.given.append(cid)
        return block


class Peers:
    """Holders of snapshots; a block takes a tenth of a second."""

    def __init__(self, blocks: Blocks, **most: int | None) -> None:
        self.keys = [key(name) for name in most]
        self.one = {peer_id(key(name)): Peer(blocks, limit) for name, limit in most.items()}

    @property
    def given(self) -> list[bytes]:
        return [cid for peer in self.one.values() for cid in peer.given]

    def session(self, peers: Sequence[str]) -> FakeSession:
        return FakeSession([self.one[peer] for peer in peers], 0.1)

    async def fetch(self, store: BlockStore, root: bytes, limit: int = LIMIT) -> Download:
        made = Download(store, root, self.keys, self.session, limit)
        with trio.fail_after(600):
            await made.run()
        return made


@pytest.mark.parametrize("size", [1, LEAF, LEAF + 1, SIZE])
@pytest.mark.parametrize("peers", [{"a": None}, {"a": None, "b": None, "c": None}, {"a": 1, "b": 0, "c": None}])
async def test_a_snapshot_arrives(
    store: BlockStore, there: Blocks, clock: MockClock, peers: dict[str, int | None], size: int
) -> None:
    root = make(there, 0, size)
    asked = Peers(there, **peers)
    made = await asked.fetch(store, root)
    assert b"".join(store.read(root)) == content(0, size)
    assert (made.progress.cid, made.progress.done, made.progress.size) == (root, size, size)
    assert made.progress.holders == len(peers)
    cids = blocks_of(there, root)
    assert sorted(asked.given) == sorted(cids)
    assert lying(store.blocks) == digests(cids)
    if None in peers.values() and set(peers.values()) == {None} and size == SIZE:
        assert all(len(peer.given) >= len(cids) // len(peers) for peer in asked.one.values())


async def test_leaves_that_are_alike_come_once_or_twice_but_all_of_them(
    store: BlockStore, there: Blocks, clock: MockClock
) -> None:
    """A matrix of zeros, for one."""
    data = bytes(7 * LEAF) + b"end"
    root = write(there, [data]).cid
    made = await Peers(there, a=None).fetch(store, root)
    assert b"".join(store.read(root)) == data
    assert made.progress.done == made.progress.size == len(data)
    again = await Peers(there, a=None).fetch(store, root)  # of which all is here
    assert again.progress.done == len(data)


async def test_zeros_are_counted_wherever_they_stand(
    store: BlockStore, there: Blocks, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unixfs, "MAX_LINKS", 2)
    data = content(0, 3 * LEAF) + bytes(10 * LEAF) + content(1, LEAF) + bytes(2 * LEAF)
    root = write(there, [data]).cid
    made = await Peers(there, a=None).fetch(store, root)
    assert made.progress.done == made.progress.size == len(data)


async def test_who_comes_later_is_asked_too_and_who_waits_for_a_block_is_told(
    store: BlockStore, there: Blocks, clock: MockClock
) -> None:
    root = make(there)
    joined: list[str] = []
    arrived: list[bytes] = []

    class Noting(FakeSession):
        def add(self, peer: str) -> None:
            joined.append(peer)

    peers = Peers(there, a=None)
    download = Download(
        store,
        root,
        peers.keys,
        lambda asked: Noting([peers.one[peer] for peer in asked], 0.1),
        LIMIT,
        arrived=arrived.extend,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(download.run)
        await trio.sleep(0.55)
        download.add([peer_id(key("a")), peer_id(key("b"))])
    assert joined == [peer_id(key("b"))]
    assert download.progress.holders == 2
    assert sorted(arrived) == sorted(set(blocks_of(there, root)))


async def test_it_stays_until_it_is_pinned_and_goes_when_nobody_wants_it(
    store: BlockStore, there: Blocks, clock: MockClock
) -> None:
    root = make(there)
    shelf = shelf_of(store)
    await Peers(there, a=None).fetch(store, root)
    store.collect()
    assert shelf.add(root)
    shelf.keep_only([])
    shelf.store.collect()
    assert lying(store.blocks) == set()


async def test_nobody_gives_all_of_it(store: BlockStore, there: Blocks, clock: MockClock) -> None:
    root = make(there)
    with pytest.raises(NetworkError, match="missing"):
        await Peers(there, a=5, b=2).fetch(store, root)
    assert not Shelf(store).add(root)


async def test_it_goes_on_where_it_was(tmp_path: Path, there: Blocks, clock: MockClock) -> None:
    root = make(there)
    store = BlockStore(tmp_path / "here")
    before = Peers(there, a=9)
    with pytest.raises(NetworkError):
        await before.fetch(store, root)
    assert lying(store.blocks) == digests(before.given) and len(before.given) == 9
    store.close()
    store = BlockStore(tmp_path / "here")
    store.collect()  # What has come stays.
    torn = before.given[-1]
    damage(store.blocks, torn)
    again = Peers(there, a=None)
    made = await again.fetch(store, root)
    assert sorted(again.given) == sorted(set(blocks_of(there, root)) - set(before.given) | {torn})
    assert b"".join(store.read(root)) == content(0)
    assert made.progress.done == SIZE
    store.close()


async def test_what_another_snapshot_has_too_is_not_fetched(store: BlockStore, there: Blocks, clock: MockClock) -> None:
    start, rest = content(0, 7 * LEAF), content(1, 3 * LEAF)
    root = write(there, [start, rest]).cid
    write(store.blocks, [start, content(2, 3 * LEAF)])
    peers = Peers(there, a=None)
    made = await peers.fetch(store, root)
    leaves = digests(map(raw_cid, cut_leaves([start])))
    assert not digests(peers.given) & leaves
    assert b"".join(store.read(root)) == start + rest
    assert made.progress.done == made.progress.size == 10 * LEAF


@pytest.mark.parametrize("which", [0, 1, 7, BLOCKS - 1])
async def test_a_damaged_block_is_fetched_again_and_nothing_else(
    store: BlockStore, there: Blocks, clock: MockClock, which: int
) -> None:
    root = make(there)
    await Peers(there, a=None).fetch(store, root)
    cid = blocks_of(there, root)[which]
    damage(store.blocks, cid)
    again = Peers(there, a=None)
    await again.fetch(store, root)
    assert again.given == [cid]
    assert not store.damaged(root)


@pytest.mark.parametrize("size", [1, LEAF, LEAF + 1, SIZE])
async def test_what_is_here_is_not_asked_for_but_looked_at(store: BlockStore, clock: MockClock, size: int) -> None:
    root = make(store.blocks, 0, size)
    peers = Peers(store.blocks, a=None)
    looked: list[tuple[bytes, int]] = []
    made = Download(
        store, root, peers.keys, peers.session, LIMIT, lambda leaves, size: looked.append((b"".join(leaves), size))
    )
    await made.run()
    assert (made.progress.done, made.progress.size) == (size, size)
    assert looked == [(content(0, size), size)]
    assert peers.given == []


async def test_cancelled_it_keeps_what_came(store: BlockStore, there: Blocks, clock: MockClock) -> None:
    root = make(there)
    peers = Peers(there, a=None)
    with trio.move_on_after(0.95):
        await peers.fetch(store, root)
    assert len(peers.given) == 9
    kept = lying(store.blocks)
    assert kept <= digests(peers.given) and len(kept) >= len(peers.given) - TOGETHER and digest_of(root) in kept
    assert store.statistics().leases == 0
    store.collect()
    assert lying(store.blocks) == kept
    again = Peers(there, a=None)
    await again.fetch(store, root)
    assert not digests(again.given) & kept


async def test_how_far_it_is(
    store: BlockStore, there: Blocks, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unixfs, "MAX_LINKS", 174)
    size = 60 * LEAF
    root = make(there, 0, size)
    peers = Peers(there, a=None, b=None)
    made = Download(store, root, peers.keys, peers.session, size)
    seen: list[Progress] = []
    assert made.progress == Progress(root, 0, 0, 2, 0.0)
    assert made.progress.seconds_left is None

    async def look() -> None:
        while True:
            seen.append(made.progress)
            await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await made.run()
        nursery.cancel_scope.cancel()
    seen.append(made.progress)
    assert all(one.done <= other.done for one, other in pairwise(seen))
    assert {progress.size for progress in seen} == {0, size}
    assert (seen[-1].done, seen[-1].seconds_left) == (size, 0)
    for progress in seen[len(seen) // 2 : -1]:  # A leaf every tenth of a second.
        assert progress.speed == pytest.approx(10 * LEAF, rel=0.1)
        assert progress.seconds_left == (size - progress.done) / progress.speed


# --- what is refused


def node(*children: Child) -> bytes:
    return unixfs._encode(children)


def child(block: bytes, *, codec: int = RAW, size: int | None = None, tsize: int | None = None) -> Child:
    size = len(block) if size is None else size
    return Child(make_cid(codec, block), size if tsize is None else tsize, size)


def chain(length: int) -> list[bytes]:
    """So many nodes over one another, the lowest first."""
    blocks, below = [], child(b"leaf")
    for _ in range(length):
        blocks.append(node(below))
        below = child(blocks[-1], codec=DAG_PB, size=4, tsize=below.tsize + len(blocks[-1]))
    return blocks


INNER = node(child(b"a"), child(b"b"))
HOSTILE: dict[str, list[bytes]] = {
    "no node": [b"nothing of the kind"],
    "a leaf that is no leaf of it": [b"leaf", node(child(b"leaf", size=5))],
    "a node that has more than promised": [INNER, node(child(INNER, codec=DAG_PB, size=1, tsize=len(INNER) + 2))],
    "a node in less than promised": [INNER, node(child(INNER, codec=DAG_PB, size=2, tsize=len(INNER) + 3))],
    "a node that is none": [b"nothing", node(child(b"nothing", codec=DAG_PB, size=7, tsize=8))],
    "two links that contradict each other": [b"leaf", node(child(b"leaf"), child(b"leaf", size=5))],
    "too many levels": [b"leaf", *chain(20)],
    "too large": [node(child(b"leaf", size=LEAF), *[child(b"other", size=2**20)] * 2)],
    "more nodes than file": [node(child(b"node", codec=DAG_PB, size=3, tsize=2**33))],
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_tree(store: BlockStore, there: Blocks, clock: MockClock, kind: str) -> None:
    """However often it is tried; and nothing of it stays."""
    for block in HOSTILE[kind]:
        there.put(RAW, block)
    root = make_cid(DAG_PB, HOSTILE[kind][-1])
    sound = make(store.blocks, 1)
    shelf = shelf_of(store, sound)
    for _ in range(3):
        with pytest.raises(NetworkError, match="what the peers call a snapshot"):
            await Peers(there, a=None).fetch(store, root, 2**20)
        assert not shelf.add(root)
        shelf.keep_only([sound])
        shelf.store.collect()
        assert lying(store.blocks) == digests(blocks_of(store, sound))
    assert store.statistics().leases == store.statistics().reserved == 0


async def test_what_is_too_large_is_not_fetched(store: BlockStore, there: Blocks, clock: MockClock) -> None:
    root = make(there)
    peers = Peers(there, a=None)
    with pytest.raises(NetworkError, match="this model's are smaller"):
        await peers.fetch(store, root, limit=SIZE - 1)
    assert peers.given == [root]
    await peers.fetch(store, root, limit=SIZE)


async def test_a_whole_file_that_is_of_no_use(store: BlockStore, there: Blocks, clock: MockClock) -> None:
    root = make(there)
    peers = Peers(there, a=None)
    looked: list[int] = []

    def check(leaves: Iterator[bytes], size: int) -> None:
        assert next(leaves) == content(0)[:LEAF]
        looked.append(size)
        raise StoreError("it is of another model")

    shelf = shelf_of(store)
    for _ in range(2):
        with pytest.raises(NetworkError, match="none of this model: it is of another model"):
            await Download(store, root, peers.keys, peers.session, LIMIT, check).run()
    assert looked == [SIZE, SIZE]
    shelf.keep_only([])
    shelf.store.collect()
    assert lying(store.blocks) == set()


async def test_a_full_disk_is_told(tmp_path: Path, there: Blocks, clock: MockClock) -> None:
    root = make(there)
    store = BlockStore(tmp_path / "small", cap=SIZE)
    peers = Peers(there, a=None, b=None)
    with pytest.raises(StoreError, match="no room"):
        await peers.fetch(store, root)
    assert peers.given == [root]  # The root says how large the whole is.
    assert store.statistics().leases == store.statistics().reserved == 0
    store.close()


async def test_a_disk_that_fails_in_the_middle_is_told(
    store: BlockStore, there: Blocks, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(there)
    write_one = Blocks._write
    written: list[bytes] = []

    def full(self: Blocks, digest: bytes, block: bytes) -> Path | None:
        if len(written) == 4:
            raise StoreError("the disk is full")
        written.append(digest)
        return write_one(self, digest, block)

    with monkeypatch.context() as patched, pytest.raises(StoreError, match="the disk is full"):
        patched.setattr(Blocks, "_write", full)
        await Peers(there, a=None, b=None).fetch(store, root)
    assert lying(store.blocks) <= set(written)
    again = Peers(there, a=None)
    await again.fetch(store, root)
    assert b"".join(store.read(root)) == content(0)


async def test_a_tree_of_tiny_leaves_is_refused_before_it_takes_room(
    store: BlockStore, there: Blocks, clock: MockClock
) -> None:
    """Each would cost a block of the disk, and an entry in memory, whatever its size."""
    leaves = [number.to_bytes(3) for number in range(300)]
    root = unixfs.build(leaves, there.put)
    with pytest.raises(NetworkError, match="not cut into leaves"):
        await Peers(there, a=None).fetch(store, root.cid, limit=4 * LEAF)
    assert lying(store.blocks) <= {digest_of(root.cid)}
