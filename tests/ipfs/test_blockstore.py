"""The embedded store: what is pinned or on its way stays, whatever happens meanwhile; the rest goes, under a cap."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from learnae import dagcbor, unixfs
from learnae.blocks import Blocks
from learnae.cid import DAG_CBOR, DAG_PB, RAW, digest_of, make_cid
from learnae.errors import StoreError, WireError
from learnaed.blockstore import BlockStore, Collected, Lease, Pin
from learnaed.blockstore import store as module

DAY = 86_400.0


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of three links at most, so that small files have many levels."""
    monkeypatch.setattr(unixfs, "MAX_LINKS", 3)


class Clock:
    """Seconds since the epoch, as the test wants them."""

    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[BlockStore]:
    made = BlockStore(tmp_path / "snapshots", clock=clock)
    yield made
    made.close()


def file_of(name: str, leaves: int = 9) -> tuple[bytes, dict[bytes, tuple[int, bytes]]]:
    """A small file, pseudo-random: its root, and all its blocks by CID, in the order in which they are built."""
    rng = random.Random(name)
    found: dict[bytes, tuple[int, bytes]] = {}

    def keep(codec: int, block: bytes) -> bytes:
        found[make_cid(codec, block)] = codec, block
        return make_cid(codec, block)

    root = unixfs.build([rng.randbytes(100) for _ in range(leaves)], keep)
    return root.cid, found


def put(store: BlockStore, name: str, leaves: int = 9, *, pin: bool = False) -> bytes:
    root, blocks = file_of(name, leaves)
    with store.lease() as lease:
        lease.put_all(blocks.values())
        if pin:
            store.pin(root, "test")
    return root


def here(store: BlockStore) -> set[bytes]:
    return {bytes.fromhex(path.name) for path in store.blocks.directory.glob("??/*")}


def digests(*names: str) -> set[bytes]:
    return {digest_of(cid) for name in names for cid in file_of(name)[1]}


def size_of(name: str) -> int:
    return sum(len(block) for _, block in file_of(name)[1].values())


def damage(store: BlockStore, cid: bytes) -> None:
    (path,) = store.blocks.directory.rglob(digest_of(cid).hex())
    path.write_bytes(b"damaged")


def reopened(store: BlockStore, clock: Clock, cap: int = module.CAP) -> BlockStore:
    store.close()
    return BlockStore(store.blocks.directory.parent, clock=clock, cap=cap)


# --- pins


def test_what_is_pinned_stays_and_the_rest_goes(store: BlockStore, clock: Clock) -> None:
    kept, _ = put(store, "kept", pin=True), put(store, "other")
    assert store.collect() == Collected(len(digests("other")), size_of("other"), True)
    assert here(store) == digests("kept")
    assert b"".join(store.read(kept)) == b"".join(block for codec, block in file_of("kept")[1].values() if codec == RAW)
    assert dict(store.stream(kept)) == {cid: block for cid, (_, block) in file_of("kept")[1].items()}
    store = reopened(store, clock)
    assert store.collect() == Collected(0, 0, True)
    assert store.unpin(kept) and not store.unpin(kept)
    store.collect()
    assert here(store) == set()
    store.close()


def test_pins_say_what_they_are(store: BlockStore, clock: Clock) -> None:
    root = put(store, "kept")
    with store.lease() as lease:
        block = lease.put(DAG_CBOR, b"\xa0")
    first = store.pin(root, "cut", label="cut 7", about={"cut": 7})
    assert first == Pin(root, "cut", "cut 7", clock.now, 900, False, {"cut": 7})
    clock.now += 5
    second = store.pin(block, "user")
    assert second == Pin(block, "user", "", clock.now, 1, False, {})
    again = store.pin(root, "cut", milestone=True)
    assert again == Pin(root, "cut", "cut 7", clock.now - 5, 900, True, {})  # a label stays until there is another
    assert store.pins() == (again, second)
    store = reopened(store, clock)
    assert store.pins() == (again, second)
    store.close()


def test_each_kind_has_its_own_pin(store: BlockStore) -> None:
    root = put(store, "kept", pin=True)
    store.pin(root, "user")
    assert not store.unpin(root, "nobody") and store.unpin(root, "test")
    store.collect()
    assert here(store) == digests("kept")
    assert store.unpin(root)
    store.collect()
    assert here(store) == set()


def test_shared_blocks_stay_as_long_as_one_pin_needs_them(store: BlockStore) -> None:
    with store.lease() as lease:
        roots = [unixfs.build([b"shared", *rest], lease.put).cid for rest in ([b"1"], [b"2", b"3", b"4"])]
        for root in roots:
            store.pin(root, "test")
    shared = digest_of(make_cid(RAW, b"shared"))
    for root in roots:
        assert shared in here(store)
        store.unpin(root)
        store.collect()
    assert here(store) == set()


def test_only_what_is_whole_can_be_pinned(store: BlockStore) -> None:
    root, blocks = file_of("part")
    for lost in blocks:
        with store.lease() as lease:
            lease.put_all(value for cid, value in blocks.items() if cid != lost)
            with pytest.raises(StoreError, match=r"of its blocks are not here; fetch it first"):
                store.pin(root, "test")
            assert lost in store.missing(root)
        store.collect()
    assert store.pins() == ()
    with pytest.raises(WireError):
        store.pin(b"no cid", "test")
    with pytest.raises(ValueError, match="4096"):
        store.pin(put(store, "kept"), "test", about={"long": "x" * 5000})


def test_links_in_structured_data_are_not_followed(store: BlockStore) -> None:
    root = put(store, "kept")
    with store.lease() as lease:
        manifest = lease.put(DAG_CBOR, dagcbor.encode({"weights": dagcbor.Link(root)}))
        store.pin(manifest, "test")
    store.collect()
    assert here(store) == {digest_of(manifest)}


# --- damage


def test_damage_is_told_and_costs_no_other_block(store: BlockStore) -> None:
    root = put(store, "kept", pin=True)
    blocks = file_of("kept")[1]
    middle = unixfs.parse_node(blocks[root][1])[1].cid
    assert blocks[middle][0] == DAG_PB
    damage(store, middle)
    assert store.take_damaged() == ()
    assert store.damaged(root) == (middle,)
    assert store.take_damaged() == (middle,) and store.take_damaged() == ()
    assert store.statistics().damaged == 1
    store.collect()
    assert here(store) == digests("kept") - {digest_of(middle)}
    with store.lease() as lease:
        lease.put(*blocks[middle])
    store.collect()
    assert store.missing(root) == () and here(store) == digests("kept")
    damage(store, root)
    assert store.get(root) is None
    assert store.missing(root) == (root,)
    store.collect()
    assert here(store) == digests("kept") - {digest_of(root)}


def test_reading_what_is_not_whole(store: BlockStore) -> None:
    root = put(store, "kept", pin=True)
    lost = next(cid for cid, (codec, _) in file_of("kept")[1].items() if codec == RAW)
    damage(store, lost)
    for look in (store.read, store.stream):
        with pytest.raises(unixfs.MissingBlock) as caught:
            list(look(root))
        assert caught.value.cid == lost


# --- the database


def spoil(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_lost_pins_delete_nothing_until_all_is_pinned_again(tmp_path: Path, clock: Clock, how: str) -> None:
    store = BlockStore(tmp_path, clock=clock)
    root = put(store, "kept", pin=True)
    put(store, "other")
    store.close()
    database = tmp_path / "pins.sqlite"
    spoil(database) if how == "damaged" else database.unlink()
    for _ in range(2):
        store = BlockStore(tmp_path, clock=clock)
        assert store.pins() == () and not store.statistics().complete
        assert store.collect() == Collected(0, 0, False)
        assert here(store) == digests("kept", "other")
        store.close()
    assert (tmp_path / "pins.sqlite.damaged").exists() == (how == "damaged")
    store = BlockStore(tmp_path, clock=clock, cap=size_of("kept"))
    with pytest.raises(StoreError, match="list of pins was lost"):
        store.lease(size=1)
    store.pin(root, "test")
    store.pins_are_complete()
    store.collect()
    assert here(store) == digests("kept")
    store.close()
    store = BlockStore(tmp_path, clock=clock)
    assert store.statistics().complete
    store.close()


def test_damage_in_use_is_told(store: BlockStore, tmp_path: Path, clock: Clock) -> None:
    root = put(store, "kept", pin=True)
    other = put(store, "other")
    store.close()
    database = tmp_path / "snapshots" / "pins.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'marks'").fetchone()
        (length,) = db.execute("PRAGMA page_size").fetchone()
    store = BlockStore(tmp_path / "snapshots", clock=clock)
    with database.open("r+b") as file:
        file.seek((page - 1) * length)
        file.write(b"\xff" * length)
    store._book._db.execute("PRAGMA shrink_memory")  # It would not look into the file for long.
    with pytest.raises(StoreError, match="start the daemon again"):
        store.pin(other, "test")
        store.collect()
    assert here(store) == digests("kept", "other")
    store.close()
    store = BlockStore(tmp_path / "snapshots", clock=clock)
    assert not store.statistics().complete and store.missing(root) == ()
    store.close()


def test_a_database_of_a_newer_learnae_is_left_alone(store: BlockStore, tmp_path: Path, clock: Clock) -> None:
    store.close()
    database = tmp_path / "snapshots" / "pins.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer learnae"):
        BlockStore(tmp_path / "snapshots", clock=clock)
    assert database.exists()


# --- leases


def test_what_comes_under_a_lease_stays_until_it_is_released(store: BlockStore) -> None:
    with store.lease() as lease:
        lease.put_all(file_of("coming")[1].values())
        store.collect()
        assert here(store) == digests("coming")
    assert here(store) == digests("coming")
    store.collect()
    assert here(store) == set()
    lease.release()
    with pytest.raises(StoreError, match="has ended"):
        lease.put(RAW, b"late")


def test_a_download_protects_what_was_here_before(store: BlockStore) -> None:
    """Blocks that it finds here, and therefore does not fetch, stay as well: below a node at once when that comes."""
    root, blocks = file_of("coming")
    with store.lease() as earlier:
        earlier.put_all(value for cid, value in blocks.items() if cid != root)
    with store.lease(root) as lease:
        lease.put(*blocks[root])
        assert store.missing(root) == ()
        store.collect()
        assert store.missing(root) == ()
        store.pin(root, "test")
    store.collect()
    assert here(store) == digests("coming")


def test_a_lease_on_what_is_whole_keeps_it(store: BlockStore) -> None:
    root = put(store, "here")
    with store.lease(root):
        store.collect()
        assert here(store) == digests("here")


@pytest.mark.parametrize("how", ["another download", "another process"])
@pytest.mark.parametrize("paused", [False, True])
def test_a_download_keeps_what_others_brought_of_it(store: BlockStore, how: str, paused: bool) -> None:
    """It finds these blocks here, and does not fetch them."""
    root, _ = file_of("coming")
    waiting = store.lease(root)
    if paused:
        waiting.release(keep=True)
    if how == "another download":
        put(store, "coming")
    else:
        with store.writer(), Blocks(store.blocks.directory).batch() as batch:
            for value in file_of("coming")[1].values():
                batch.put(*value)
    store.collect()
    assert here(store) == digests("coming")


def arrived(store: BlockStore, lease: Lease, name: str) -> set[bytes]:
    """Half of a download: the nodes and a few leaves."""
    _, blocks = file_of(name)
    some = [*reversed(blocks)][:7]
    lease.put_all(blocks[cid] for cid in some)
    return {digest_of(cid) for cid in some}


@pytest.mark.parametrize("how", ["crash", "keep"])
def test_a_download_goes_on_after_a_pause(store: BlockStore, clock: Clock, how: str) -> None:
    root, _ = file_of("coming")
    lease = store.lease(root)
    came = arrived(store, lease, "coming")
    if how == "keep":
        lease.release(keep=True)
    else:
        store = reopened(store, clock)
    clock.now += 0.9 * DAY
    store.collect()
    assert here(store) == came
    with store.lease(root):
        clock.now += 0.9 * DAY
        store.collect()
        assert here(store) == came
    store.collect()
    assert here(store) == set()
    store.close()


@pytest.mark.parametrize("how", ["crash", "keep"])
def test_a_download_may_take_days(store: BlockStore, clock: Clock, how: str) -> None:
    lease = store.lease(file_of("coming")[0])
    came = arrived(store, lease, "coming")
    for _ in range(4):
        clock.now += 0.9 * DAY
        store.collect()
    if how == "keep":
        lease.release(keep=True)
    else:
        store = reopened(store, clock)
    clock.now += 0.9 * DAY
    store.collect()
    assert here(store) == came
    store.close()


def test_a_download_that_was_pinned_goes_with_its_pin(store: BlockStore, clock: Clock) -> None:
    root, blocks = file_of("coming")
    with store.lease(root) as lease:
        lease.put_all(blocks.values())
        lease.release(keep=True)
    store.collect()
    store.pin(root, "test")
    assert store.unpin(root, "test")
    store = reopened(store, clock)
    store.collect()
    assert here(store) == set()
    store.close()


@pytest.mark.parametrize("clock_goes", [1.1 * DAY, -1.1 * DAY])
def test_a_download_that_nobody_goes_on_with_is_given_up(store: BlockStore, clock: Clock, clock_goes: float) -> None:
    lease = store.lease(file_of("coming")[0])
    arrived(store, lease, "coming")
    lease.release(keep=True)
    clock.now += clock_goes
    store.collect()
    assert here(store) == set()
    store = reopened(store, clock)
    assert store.collect() == Collected(0, 0, True)
    store.close()


def test_nothing_is_swept_while_another_process_writes(store: BlockStore) -> None:
    found, _ = put(store, "found"), put(store, "other")
    sweep = store.collecting()
    for _ in range(3):
        next(sweep)
    left = here(store)
    with store.writer():
        with Blocks(store.blocks.directory).batch() as batch:
            for value in [*file_of("written")[1].values(), *file_of("found")[1].values()]:
                batch.put(*value)
        assert [step.blocks for step in sweep] == [0] * 253
        assert store.collect() == Collected(0, 0, False)
        assert here(store) == left | digests("written", "found")
        store.pin(file_of("written")[0], "test")
        store.pin(found, "test")
    assert store.statistics().bytes == sum(stored.size for stored in store.blocks)
    assert store.collect().finished
    assert here(store) == digests("written", "found")


def test_a_malformed_node_does_not_come_in(store: BlockStore) -> None:
    with store.lease() as lease, pytest.raises(WireError):
        lease.put(DAG_PB, b"not a node")
    assert here(store) == set()


def test_a_source_that_fails_leaves_nothing(store: BlockStore) -> None:
    def source() -> Iterator[tuple[int, bytes]]:
        yield from [*file_of("coming")[1].values()][:5]
        raise WireError("the file ends here")

    with store.lease() as lease, pytest.raises(WireError):
        lease.put_all(source())
    assert here(store) == set() and store.statistics().bytes == 0


# --- sweeps


def test_a_sweep_can_be_stopped_and_begun_again(store: BlockStore) -> None:
    put(store, "other", 200)
    before = len(here(store))
    part = store.collect(lambda: True)
    assert not part.finished and part.blocks < before
    rest = store.collect()
    assert rest.finished and part.blocks + rest.blocks == before
    assert store.statistics().collected == before


# --- room


def limited(tmp_path: Path, clock: Clock, cap: int) -> BlockStore:
    return BlockStore(tmp_path / "limited", cap=cap, clock=clock)


def test_what_is_not_pinned_makes_room(tmp_path: Path, clock: Clock) -> None:
    store = limited(tmp_path, clock, size_of("a") + size_of("b") + 10)
    put(store, "a", pin=True)
    put(store, "b")
    put(store, "c", pin=True)
    assert here(store) >= digests("a", "c")
    with pytest.raises(StoreError, match=r"no room for more snapshots.*All that is there is pinned or on its way"):
        put(store, "d")
    assert store.statistics().bytes <= store.statistics().cap
    assert here(store) == digests("a", "c")
    store.close()


def test_room_can_be_set_aside(tmp_path: Path, clock: Clock) -> None:
    store = limited(tmp_path, clock, size_of("a") + size_of("b"))
    put(store, "old")
    with store.lease(file_of("a")[0], size_of("a")) as lease:
        assert store.statistics().reserved == size_of("a")
        with pytest.raises(StoreError, match="no room"):
            store.lease(size=size_of("b") + 1)
        with store.writer(size_of("b")):
            pass
        lease.put_all([*file_of("a")[1].values()][:4])
        assert store.statistics().reserved + sum(s.size for s in store.blocks if s.digest in digests("a")) == size_of(
            "a"
        )
        with pytest.raises(StoreError, match="no room"):
            lease.expect(size_of("a") + size_of("b") + 1)
        assert store.statistics().leases == 1
        put(store, "b", pin=True)
        with pytest.raises(StoreError, match="no room"):
            put(store, "c")
        lease.put_all(file_of("a")[1].values())
        assert store.statistics().reserved == 0
    assert here(store) == digests("a", "b")
    store.close()


def test_room_is_reckoned_without_a_look_through_the_whole_store(
    store: BlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That took half a second with 40,000 blocks, and everybody waited for it."""
    with store.lease() as other:
        other.put(RAW, b"of another")
    with store.lease() as lease:
        lease.put(RAW, b"x" * 100)
        monkeypatch.setattr(Blocks, "__iter__", lambda blocks: pytest.fail("all blocks are listed"))
        lease.expect(1000)
        assert store.statistics().reserved == 900
        monkeypatch.undo()


def test_what_is_here_needs_no_room(tmp_path: Path, clock: Clock) -> None:
    store = limited(tmp_path, clock, size_of("a"))
    root = put(store, "a")
    with store.lease(root, size_of("a")) as lease:
        assert store.statistics().reserved == 0
        lease.put_all(file_of("a")[1].values())
    store.close()


def test_abandoned_downloads_make_room_for_new_ones(tmp_path: Path, clock: Clock) -> None:
    store = limited(tmp_path, clock, size_of("a") + 50)
    lease = store.lease(file_of("old")[0])
    arrived(store, lease, "old")
    with pytest.raises(StoreError, match="no room"):
        put(store, "a")
    lease.release(keep=True)
    put(store, "a")
    assert here(store) == digests("a")
    store.close()


def test_a_writer_blocks_room_for_a_while(tmp_path: Path, clock: Clock) -> None:
    store = limited(tmp_path, clock, size_of("a") + 50)
    put(store, "a")
    with store.writer(), pytest.raises(StoreError, match="try again"):
        put(store, "b")
    put(store, "b")
    store.close()


def test_the_disk_keeps_some_room(store: BlockStore, monkeypatch: pytest.MonkeyPatch) -> None:
    free = module.MARGIN + 100
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 0, free))
    with store.lease(size=100):
        pass
    with pytest.raises(StoreError, match="make room on the disk"):
        store.lease(size=101)
    with store.lease() as lease:
        lease.put(RAW, b"x" * 100)
        with pytest.raises(StoreError, match="make room on the disk"):
            lease.put(RAW, b"y" * 101)


def test_a_lower_cap_takes_effect(store: BlockStore, clock: Clock) -> None:
    put(store, "a", pin=True)
    put(store, "b")
    store = reopened(store, clock, cap=size_of("a") + 1)
    with store.lease() as lease:
        lease.put(RAW, b"x")
    assert here(store) == digests("a") | {digest_of(make_cid(RAW, b"x"))}
    store.close()


# --- random interleavings

LEAVES = [bytes([number]) * (20 + number) for number in range(12)]
FILES = [LEAVES[:1], LEAVES[:4], LEAVES[2:9], LEAVES[:12], LEAVES[6:12], [*LEAVES[:4], *LEAVES[6:12]]]
"""They share leaves, and some share nodes."""


class Machine(RuleBasedStateMachine):
    """Whatever happens in whatever order: what is pinned or on its way stays; once it is quiet, all else is gone.

    The model knows pins and leases, and for each the digests that must not be deleted: all that a root or a block under
    the lease leads to, through nodes that were here at some moment since.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files: list[dict[bytes, tuple[int, bytes]]] = []
        self.roots: list[bytes] = []
        for leaves in FILES:
            found: dict[bytes, tuple[int, bytes]] = {}

            def keep(codec: int, block: bytes, found: dict[bytes, tuple[int, bytes]] = found) -> bytes:
                found[make_cid(codec, block)] = codec, block
                return make_cid(codec, block)

            self.roots.append(unixfs.build(leaves, keep).cid)
            self.files.append(found)
        self.all = {digest_of(cid): value for found in self.files for cid, value in found.items()}
        self.clock = Clock()
        memory = Path("/dev/shm")
        self.directory = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.cap = module.CAP
        self.store = BlockStore(self.directory, clock=self.clock, cap=self.cap)
        self.pins: set[tuple[bytes, str]] = set()
        self.leases: list[tuple[Lease, set[bytes]]] = []
        self.left: dict[bytes, set[bytes]] = {}
        self.old: set[bytes] = set()
        """Downloads that were begun more than a day ago at some time."""
        self.writer: Lease | None = None
        self.sweep: Iterator[Collected] | None = None
        self.must: set[bytes] = set()

    # --- the model

    def extend(self, names: set[bytes], present: set[bytes]) -> None:
        """Add what these lead to through nodes that are here."""
        ahead = [digest for digest in names if digest in present]
        while ahead:
            codec, block = self.all[ahead.pop()]
            if codec == DAG_PB:
                below = {digest_of(child.cid) for child in unixfs.parse_node(block)}
                ahead += (below - names) & present
                names |= below

    def pinned(self) -> set[bytes]:
        return {digest_of(cid) for root, _ in self.pins for cid in self.files[self.roots.index(root)]}

    @invariant()
    def nothing_is_lost(self) -> None:
        present = here(self.store)
        self.give_up()
        assert self.must <= present
        names = [*(names for _, names in self.leases), *self.left.values()]
        for each in names:
            self.extend(each, present)
        self.must = self.pinned().union(*names) & present
        if self.writer is not None:
            self.must = present

    # --- leases

    @rule(number=st.integers(0, 5))
    def begin_download(self, number: int) -> None:
        root = self.roots[number]
        self.leases.append((self.store.lease(root), {digest_of(root)} | self.left.pop(root, set())))

    @rule()
    def begin_other(self) -> None:
        self.leases.append((self.store.lease(), set()))

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0), number=st.integers(0, 5), at=st.integers(0))
    def put_any(self, which: int, number: int, at: int) -> None:
        lease, names = self.leases[which % len(self.leases)]
        cid, value = [*self.files[number].items()][at % len(self.files[number])]
        self.put(lease, names, [(cid, value)])

    @precondition(lambda self: any(lease.root for lease, _ in self.leases))
    @rule(which=st.integers(0), most=st.integers(1, 4))
    def go_on_with_download(self, which: int, most: int) -> None:
        downloads = [(lease, names) for lease, names in self.leases if lease.root]
        lease, names = downloads[which % len(downloads)]
        assert lease.root is not None
        blocks = self.files[self.roots.index(lease.root)]
        self.put(lease, names, [(cid, blocks[cid]) for cid in self.store.missing(lease.root)[:most]])
        if not self.store.missing(lease.root):
            self.pins.add((lease.root, "test"))
            self.store.pin(lease.root, "test")
            self.release(self.leases.index((lease, names)), False)

    def put(self, lease: Lease, names: set[bytes], blocks: list[tuple[bytes, tuple[int, bytes]]]) -> None:
        try:
            assert lease.put_all(value for _, value in blocks) == tuple(cid for cid, _ in blocks)
        except StoreError as error:
            assert "no room" in str(error)
            return
        names |= {digest_of(cid) for cid, _ in blocks}
        assert names >= {digest_of(cid) for cid, _ in blocks if self.store.has(cid)}
        self.must |= {digest_of(cid) for cid, _ in blocks}

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0), keep=st.booleans())
    def release(self, which: int, keep: bool) -> None:
        lease, names = self.leases.pop(which % len(self.leases))
        lease.release(keep=keep)
        root = lease.root
        if keep and root is not None and not any(other.root == root for other, _ in self.leases):
            self.left[root] = names

    @precondition(lambda self: self.writer is None)
    @rule()
    def begin_writing(self) -> None:
        self.writer = self.store.writer()

    @precondition(lambda self: self.writer is not None)
    @rule(number=st.integers(0, 5))
    def write_from_outside(self, number: int) -> None:
        with Blocks(self.store.blocks.directory).batch() as batch:
            for value in self.files[number].values():
                batch.put(*value)
        self.must |= {digest_of(cid) for cid in self.files[number]}

    @precondition(lambda self: self.writer is not None)
    @rule(number=st.integers(0, 5), pin=st.booleans())
    def end_writing(self, number: int, pin: bool) -> None:
        assert self.writer is not None
        if pin:
            self.pin(number, "test")
        self.writer.release()
        self.writer = None

    # --- pins

    @rule(number=st.integers(0, 5), kind=st.sampled_from(["test", "user"]))
    def pin(self, number: int, kind: str) -> None:
        root = self.roots[number]
        if {digest_of(cid) for cid in self.files[number]} <= here(self.store):
            self.store.pin(root, kind)
            self.pins.add((root, kind))
            self.left.pop(root, None)
        else:
            with pytest.raises(StoreError, match="not here"):
                self.store.pin(root, kind)

    @precondition(lambda self: self.pins)
    @rule(which=st.integers(0))
    def unpin(self, which: int) -> None:
        root, kind = sorted(self.pins)[which % len(self.pins)]
        assert self.store.unpin(root, kind)
        self.pins.remove((root, kind))

    # --- time, sweeps, misfortune

    @rule(steps=st.sampled_from([1, 40, 100, 256]))
    def sweep_some(self, steps: int) -> None:
        if self.sweep is None:
            self.sweep = self.store.collecting()
        for _ in range(steps):
            if next(self.sweep, None) is None:
                self.sweep = None
                break

    @rule()
    def sweep_all(self) -> None:
        done = self.store.collect()
        self.give_up()
        assert done.finished == (self.writer is None)
        if done.finished:
            names = [*(names for _, names in self.leases), *self.left.values()]
            assert here(self.store) <= self.pinned().union(*names)

    def give_up(self) -> None:
        """The store gives up what nobody goes on with when that is old, or when it needs the room."""
        begun = self.store._book.downloads()
        gone = {root for root in self.left if root not in begun}
        assert not gone or self.cap < module.CAP or gone <= self.old
        for root in gone:
            del self.left[root]
        if gone and self.writer is None:
            self.must &= self.pinned().union(*(names for _, names in self.leases), *self.left.values())

    @rule(hours=st.sampled_from([1, 20, 30]))
    def wait(self, hours: int) -> None:
        self.clock.now += hours * 3600
        begun = self.store._book.downloads()
        self.old |= {root for root, since in begun.items() if abs(self.clock.now - since) > DAY}

    @precondition(lambda self: self.must)
    @rule(which=st.integers(0))
    def damage(self, which: int) -> None:
        digest = sorted(self.must)[which % len(self.must)]
        codec, block = self.all[digest]
        cid = make_cid(codec, block)
        damage(self.store, cid)
        assert self.store.get(cid) is None and self.store.take_damaged() == (cid,)
        self.must.discard(digest)

    @rule(cap=st.sampled_from([module.CAP, 2000, 600]))
    def crash(self, cap: int) -> None:
        self.store.close()
        self.cap = cap
        self.store = BlockStore(self.directory, clock=self.clock, cap=cap)
        roots = [lease.root for lease, _ in self.leases if lease.root is not None]
        self.left = {root: {digest_of(root)} for root in [*roots, *self.left]}
        self.leases, self.writer, self.sweep = [], None, None

    def teardown(self) -> None:
        for lease, _ in self.leases:
            lease.release()
        if self.writer is not None:
            self.writer.release()
        self.clock.now += 2 * DAY
        self.leases, self.left, self.writer = [], {}, None
        self.must &= self.pinned()
        assert self.store.collect().finished
        assert self.must <= here(self.store) <= self.pinned()
        assert {(pin.root, pin.kind) for pin in self.store.pins()} == self.pins
        self.store.close()
        shutil.rmtree(self.directory)


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crashes here are those of processes, which lose nothing that the system has."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def test_random_interleavings(quick_disk: None) -> None:
    run_state_machine_as_test(Machine, settings=settings(max_examples=40, stateful_step_count=40))
