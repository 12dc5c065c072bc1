"""Snapshots on disk: served by block, fetched from honest, lying, slow and vanishing peers, resumed, deleted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from learnae.cid import raw_cid
from learnae.errors import NetworkError, StoreError
from learnae.snapshot import LEAF, Links, exists, links_path, read, snapshot_path, write
from learnae.wire import MAX_PART
from learnaed.snapshots import MOST_BYTES, Download, Shelf, download

SIZE = 10 * LEAF + 1234
LIMIT = 2 * SIZE


@pytest.fixture
def clock(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """Virtual time. It would run away while a thread works: what is given to threads is done at once."""

    async def at_once(work: Callable[..., object], *arguments: object) -> object:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    return autojump_clock


def make(directory: Path, seed: int = 0, size: int = SIZE) -> Links:
    return write(directory, [random.Random(seed).randbytes(size)])


def opened(directory: Path) -> Shelf:
    shelf = Shelf()
    shelf.open(directory)
    return shelf


# --- the shelf


def test_every_leaf_of_every_snapshot_is_served(tmp_path: Path) -> None:
    made = [make(tmp_path, seed, size) for seed, size in enumerate((1, LEAF, LEAF + 1, SIZE))]
    shelf = opened(tmp_path)
    assert shelf.cids == {links.cid for links in made}
    for seed, links in enumerate(made):
        content = random.Random(seed).randbytes(links.size)
        assert shelf.block(links.cid) == links.encode()
        assert b"".join(shelf.block(cid) or b"" for cid in links.leaves) == content
    assert shelf.block(raw_cid(b"something else")) is None


def test_a_cid_that_only_seems_to_be_in_a_links_block_is_not_served(tmp_path: Path) -> None:
    links = make(tmp_path)
    shelf = opened(tmp_path)
    data = links.encode()
    for start in range(len(data) - 36):
        if (cid := data[start : start + 36]) not in links.leaves:
            assert shelf.block(cid) is None


def test_a_damaged_leaf_is_not_served_and_the_snapshot_found_out(tmp_path: Path) -> None:
    links = make(tmp_path)
    shelf = opened(tmp_path)
    with snapshot_path(tmp_path, links.cid).open("r+b") as file:
        file.seek(3 * LEAF + 5)
        file.write(b"damage")
    assert [number for number, cid in enumerate(links.leaves) if shelf.block(cid) is None] == [3]
    assert shelf.discard_damaged(links.cid)
    assert (shelf.cids, list(tmp_path.iterdir())) == (frozenset(), [])
    whole = make(tmp_path, 1)
    shelf.open(tmp_path)
    assert not shelf.discard_damaged(whole.cid)
    assert shelf.cids == {whole.cid}


@pytest.mark.parametrize("trouble", ["no file", "short file", "damaged links"])
def test_half_a_snapshot_is_none(tmp_path: Path, trouble: str) -> None:
    links = make(tmp_path)
    match trouble:
        case "no file":
            snapshot_path(tmp_path, links.cid).unlink()
        case "short file":
            snapshot_path(tmp_path, links.cid).write_bytes(b"short")
        case "damaged links":
            links_path(tmp_path, links.cid).write_bytes(b"\xff")
    assert opened(tmp_path).cids == frozenset()
    assert not links_path(tmp_path, links.cid).exists()


def test_only_what_is_wanted_stays(tmp_path: Path) -> None:
    one, two = make(tmp_path, 1), make(tmp_path, 2)
    shelf = opened(tmp_path)
    unknown = make(tmp_path, 3)  # just being written by the trainer
    arriving, given_up = raw_cid(b"arriving"), raw_cid(b"given up")
    for cid in (arriving, given_up):
        snapshot_path(tmp_path, cid).with_suffix(".partial").write_bytes(b"half")
    shelf.keep_only([two.cid, arriving])
    assert [exists(tmp_path, links.cid) for links in (one, two, unknown)] == [False, True, True]
    assert [path.stem for path in tmp_path.glob("*.partial")] == [snapshot_path(tmp_path, arriving).stem]
    assert shelf.cids == {two.cid}
    assert shelf.add(unknown.cid) and shelf.cids == {two.cid, unknown.cid}
    assert not shelf.add(one.cid)


def test_what_cannot_be_deleted_does_not_stop_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = make(tmp_path, 1), make(tmp_path, 2)
    shelf = opened(tmp_path)
    stuck, draft = links_path(tmp_path, one.cid), snapshot_path(tmp_path, raw_cid(b"x")).with_suffix(".partial")
    draft.write_bytes(b"half")
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path in (stuck, draft):
            raise PermissionError("read-only")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    shelf.keep_only([])
    assert [exists(tmp_path, links.cid) for links in (one, two)] == [True, False]
    assert draft.exists() and shelf.cids == frozenset()


def test_the_largest_snapshot_that_can_be_asked_for() -> None:
    leaves = MOST_BYTES // LEAF
    assert [len(Links(n * LEAF, (raw_cid(b""),) * n).encode()) <= MAX_PART for n in (leaves, leaves + 1)] == [
        True,
        False,
    ]


# --- the download


def key(name: str) -> bytes:
    return name.encode() * 32


class Peers:
    """Holders of snapshots, each with its manners."""

    def __init__(self, source: Path, **manners: str) -> None:
        self.shelf = opened(source)
        self.manners = {key(name): manner for name, manner in manners.items()}
        self.asked: Counter[bytes] = Counter()
        self.given: Counter[bytes] = Counter()
        self.busy: set[bytes] = set()
        self.most_busy = 0

    async def ask(self, peer: bytes, cids: Sequence[bytes]) -> tuple[bytes, ...] | None:
        assert len(cids) <= 3 and peer not in self.busy
        self.asked[peer] += 1
        self.busy.add(peer)
        self.most_busy = max(self.most_busy, len(self.busy))
        try:
            await trio.sleep(0.1)
            return await self._answer(peer, cids)
        finally:
            self.busy.discard(peer)

    async def _answer(self, peer: bytes, cids: Sequence[bytes]) -> tuple[bytes, ...] | None:
        blocks = tuple(self.shelf.block(cid) or b"" for cid in cids)
        match self.manners[peer], self.asked[peer]:
            case "lies", n if n > 1:
                return (*blocks[:1], *(b"lie" for _ in blocks[1:])) if len(blocks) > 1 else (b"lie",)
            case "lies at once", _:
                return tuple(b"lie" for _ in blocks)
            case "stalls", _:
                await trio.sleep_forever()
            case "leaves", n if n > 2:
                return None
            case "stumbles", 2:
                return None
            case "one by one", _:
                blocks = blocks[:1]
        if not all(blocks):
            return None
        self.given[peer] += len(blocks)
        return blocks

    async def fetch(self, directory: Path, cid: bytes, limit: int = LIMIT) -> Download:
        made = Download(directory, cid, list(self.manners), self.ask, limit)
        with trio.fail_after(600):
            await made.run()
        return made


@pytest.mark.parametrize(
    "manners",
    [
        {"a": "honest"},
        dict.fromkeys("abcdefg", "honest"),
        {"a": "lies", "b": "honest"},
        {"a": "lies at once", "b": "honest", "c": "honest"},
        {"a": "stalls", "b": "honest"},
        {"a": "leaves", "b": "leaves", "c": "leaves", "d": "leaves", "e": "honest"},
        {"a": "stumbles"},
        {"a": "one by one"},
        {"a": "one by one", "b": "lies", "c": "stalls", "d": "leaves", "e": "stumbles"},
    ],
    ids=lambda manners: " ".join(manners.values()),
)
async def test_a_snapshot_arrives(tmp_path: Path, clock: MockClock, manners: dict[str, str]) -> None:
    links = make(tmp_path / "there")
    peers = Peers(tmp_path / "there", **manners)
    here = tmp_path / "here"
    made = await peers.fetch(here, links.cid)
    assert exists(here, links.cid)
    assert b"".join(read(snapshot_path(here, links.cid))) == random.Random(0).randbytes(SIZE)
    assert len(list(here.iterdir())) == 2
    assert (made.progress.done, made.progress.size) == (SIZE, SIZE)
    assert 1 <= peers.most_busy <= download.PARALLEL
    if len(manners) > 4 and set(manners.values()) == {"honest"}:
        assert peers.most_busy == download.PARALLEL
        assert len(peers.given) > 4


async def test_liars_and_sleepers_are_not_asked_again(tmp_path: Path, clock: MockClock) -> None:
    links = make(tmp_path / "there")
    peers = Peers(tmp_path / "there", a="lies at once", b="stalls", c="honest")
    made = await peers.fetch(tmp_path / "here", links.cid)
    assert peers.asked[key("a")] == 1
    assert peers.asked[key("b")] == 2
    assert made.progress.holders == 1


@pytest.mark.parametrize("manner", ["lies", "lies at once", "stalls", "leaves"])
async def test_nobody_gives_all_of_it(tmp_path: Path, clock: MockClock, manner: str) -> None:
    links = make(tmp_path / "there")
    with pytest.raises(NetworkError, match="no peer gives"):
        await Peers(tmp_path / "there", a=manner).fetch(tmp_path / "here", links.cid)
    assert not exists(tmp_path / "here", links.cid)


async def test_it_goes_on_where_it_was(tmp_path: Path, clock: MockClock) -> None:
    links = make(tmp_path / "there")
    here = tmp_path / "here"
    with pytest.raises(NetworkError):
        await Peers(tmp_path / "there", a="leaves").fetch(here, links.cid)
    (draft,) = here.iterdir()
    with draft.open("r+b") as file:  # What was written last before a power cut may be anything.
        file.seek(LEAF + 7)
        file.write(b"torn")
    again = Peers(tmp_path / "there", a="honest")
    await again.fetch(here, links.cid)
    assert exists(here, links.cid)
    assert again.given[key("a")] == 1 + len(links.leaves) - 2  # links, and all but two of the three that came before
    assert b"".join(read(snapshot_path(here, links.cid))) == random.Random(0).randbytes(SIZE)


async def test_cancelled_it_leaves_a_draft(tmp_path: Path, clock: MockClock) -> None:
    links = make(tmp_path / "there")
    peers = Peers(tmp_path / "there", a="honest")
    with trio.move_on_after(0.25):
        await peers.fetch(tmp_path / "here", links.cid)
    assert [path.suffix for path in (tmp_path / "here").iterdir()] == [".partial"]


async def test_what_is_too_large_is_not_fetched(tmp_path: Path, clock: MockClock) -> None:
    links = make(tmp_path / "there")
    peers = Peers(tmp_path / "there", a="honest")
    with pytest.raises(NetworkError, match="this model's are smaller"):
        await peers.fetch(tmp_path / "here", links.cid, limit=SIZE - 1)
    assert peers.asked[key("a")] == 1


async def test_what_is_no_links_block_is_refused(tmp_path: Path, clock: MockClock) -> None:
    links = make(tmp_path / "there")
    with pytest.raises(NetworkError, match="is none"):
        await Peers(tmp_path / "there", a="honest").fetch(tmp_path / "here", links.leaves[0])


async def test_a_full_disk_is_told(tmp_path: Path, clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    links = make(tmp_path / "there")
    peers = Peers(tmp_path / "there", a="honest", b="honest")
    with monkeypatch.context() as patched, pytest.raises(StoreError, match="MiB are free"):
        patched.setattr(download, "_MARGIN", 1 << 60)
        await peers.fetch(tmp_path / "here", links.cid)
    written: list[int] = []

    def full(self: Download, number: int, leaf: bytes) -> None:
        if len(written) == 4:
            raise StoreError("the disk is full")
        written.append(number)

    monkeypatch.setattr(Download, "_write", full)
    with pytest.raises(StoreError, match="the disk is full"):
        await peers.fetch(tmp_path / "here", links.cid)
