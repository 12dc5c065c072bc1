"""The blocks are looked after in the background: swept, and fetched again when they were damaged."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from learnae import unixfs
from learnae.cid import DAG_PB, codec_of, raw_cid, to_text
from learnae.snapshot import cut_leaves
from learnaed.blockstore import store as blockstore
from learnaed.ipfs import IpfsNode
from learnaed.network import Network
from learnaed.snapshots import Keeper
from learnaed.snapshots.keeper import FIRST_RETRY
from tests.daemon.cuts import Place, content, manifest, root_of
from tests.daemon.test_finder import Held, Ipfs, Peers, held


@pytest.fixture
def clock(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """Virtual time. It would run away while a thread works: what is given to threads is done at once."""

    async def at_once(work: Callable[..., object], *arguments: object) -> object:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    return autojump_clock


class Kept:
    """A disk with a cut on it, and who looks after it."""

    def __init__(self, directory: Path, peers: Held | None = None, ipfs: Held | None = None) -> None:
        self.place = Place(directory)
        self.place.settle(0)
        self.told: list[tuple[str, str]] = []
        self.peers = Peers(peers)
        node = None if ipfs is None else cast(IpfsNode, Ipfs(ipfs))
        notify = lambda level, text: self.told.append((level, text))  # noqa: E731
        self.keeper = Keeper(self.place.shelf, cast(Network, self.peers), lambda: node, notify)

    def damage(self, cid: bytes) -> None:
        """Have it damaged, and found out."""
        self.place.damage(cid)
        assert self.place.store.get(cid) is None

    async def whole(self, retries: int = 0) -> None:
        """Look after it, so often; then all is here."""
        await self.keeper.look()
        for _ in range(retries):
            await trio.sleep(60)
            await self.keeper.look()
        assert b"".join(self.place.store.read(root_of(0))) == content(0)
        assert self.place.indices == [0]
        assert self.keeper.statistics().lost == 0
        assert [level for level, _ in self.told] == ["warning", "info"]


@pytest.fixture
def blocks(tmp_path: Path) -> dict[bytes, bytes]:
    """Those of the cut, the root first."""
    there = Place(tmp_path / "there")
    there.settle(0)
    return held(there, manifest(0))


@pytest.mark.parametrize("which", [0, 1, 2, -1])
@pytest.mark.parametrize("source", ["peers", "ipfs", "both"])
async def test_a_damaged_block_is_fetched_again_and_nothing_else(
    tmp_path: Path, clock: MockClock, blocks: dict[bytes, bytes], source: str, which: int
) -> None:
    kept = Kept(tmp_path, *{"peers": (blocks, None), "ipfs": (None, blocks), "both": ({}, blocks)}[source])
    cid = list(blocks)[which]
    kept.damage(cid)
    await kept.whole()
    assert kept.peers.given == ([cid] if source == "peers" else [])
    assert kept.keeper.statistics().mended == 1
    assert to_text(cid) in kept.told[0][1] and "have the disk checked" in kept.told[0][1]
    await kept.keeper.look()
    assert len(kept.told) == 2


async def test_several_are_told_of_once(tmp_path: Path, clock: MockClock, blocks: dict[bytes, bytes]) -> None:
    kept = Kept(tmp_path, blocks)
    for cid in blocks:
        kept.damage(cid)
    await kept.whole()
    assert set(kept.peers.given) == set(blocks) and len(kept.peers.given) == len(blocks)


async def test_it_is_tried_again_until_somebody_has_it(
    tmp_path: Path, clock: MockClock, blocks: dict[bytes, bytes]
) -> None:
    some: dict[bytes, bytes] = {}
    kept = Kept(tmp_path, some, {})
    kept.damage(list(blocks)[2])
    tries = 0
    for _ in range(300):
        before = kept.keeper._due
        await kept.keeper.look()
        tries += kept.keeper._due != before
        await trio.sleep(1)
    assert 4 <= tries <= 7  # After 5, 10, 20, ... seconds.
    assert [level for level, _ in kept.told] == ["warning"]
    assert kept.keeper.statistics().lost == 1
    some.update(blocks)
    await kept.whole(retries=10)


async def test_what_was_lost_in_an_earlier_life_is_found_at_the_start(
    tmp_path: Path, clock: MockClock, blocks: dict[bytes, bytes]
) -> None:
    kept = Kept(tmp_path, blocks)
    node = next(cid for cid in blocks if codec_of(cid) == DAG_PB)
    for cid in (node, list(blocks)[-1]):
        kept.damage(cid)
    kept.place.store.take_damaged()
    assert not any("missing" in text for _, text in kept.told)
    with trio.move_on_after(10 * FIRST_RETRY):
        await kept.keeper.run()
    await kept.whole()


async def test_what_no_pin_needs_is_not_fetched(tmp_path: Path, clock: MockClock, blocks: dict[bytes, bytes]) -> None:
    kept = Kept(tmp_path, blocks)
    stray = kept.place.store.blocks.put(0x55, b"stray")
    kept.damage(stray)
    kept.place.archive.keep_only([])
    kept.damage(list(blocks)[-1])
    await kept.keeper.look()
    assert kept.told == [] and kept.peers.given == [] and kept.place.blocks == 0


async def test_it_sweeps_when_something_was_given_up(
    tmp_path: Path, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path)
    sweeps = 0
    collecting = kept.place.store.collecting

    def counted() -> Any:
        nonlocal sweeps
        sweeps += 1
        return collecting()

    monkeypatch.setattr(kept.place.store, "collecting", counted)
    for _ in range(3):
        await kept.keeper.look()
    assert sweeps == 1  # At the start: whoever ran here before may have been killed.
    kept.place.shelf.begin_writing()
    kept.place.archive.keep_only([])
    for _ in range(3):
        await kept.keeper.look()
    assert kept.place.blocks > 0 and sweeps == 4  # In vain, while the trainer writes.
    kept.place.shelf.end_writing()
    for _ in range(3):
        await kept.keeper.look()
    assert kept.place.blocks == 0 and sweeps == 5


async def test_others_use_the_store_between_the_steps_of_a_sweep(tmp_path: Path) -> None:
    """What they pin or bring meanwhile stays; and they wait for a few blocks at most, not for the sweep."""
    kept = Kept(tmp_path)
    store, shelf = kept.place.store, kept.place.shelf
    for number in range(400):
        store.blocks.put(0x55, number.to_bytes(2, "little"))
    one = kept.place.write(7)
    shelf.drop(one)
    between: list[int] = []

    def use() -> None:
        assert store._lock.acquire(timeout=10)
        store._lock.release()
        between.append(kept.place.blocks)
        with store.lease() as lease:
            lease.put(0x55, b"\x07\x00")
            if len(between) == 2:
                unixfs.build(cut_leaves([content(7)]), lease.put)
                assert shelf.add(one)

    for steps, step in enumerate(store.collecting()):
        assert step.finished and step.blocks <= blockstore.SLICE
        if steps % 50 == 10:
            thread = threading.Thread(target=use)
            thread.start()
            thread.join(20)
    assert len(between) >= 4 and between == sorted(between, reverse=True)
    assert not store.missing(one) and not store.missing(root_of(0))
    assert store.collect().finished
    assert store.has(raw_cid(b"\x08\x00")) is False
