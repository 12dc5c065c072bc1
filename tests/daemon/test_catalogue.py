"""The kept cuts for the user and for an IPFS node; and what `--from` makes of one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from learnae import car, protocol
from learnae.cid import to_text
from learnae.coordinator import Coordinator
from learnae.coordinator.actions import KeepCut, Settle
from learnae.errors import NetworkError, StoreError, TaskError, WireError
from learnae.genesis import Genesis
from learnae.manifest import Manifest
from learnaed.driver import Driver
from learnaed.ipfs import IpfsPinning, IpfsStatistics
from learnaed.network import Network
from learnaed.snapshots import Catalogue, Finder, Importer
from learnaed.snapshots.start import start_from
from learnaed.store import Store
from tests.daemon.cuts import AUTHOR, LAYOUT, SWARM, Place, manifest, root_of
from tests.daemon.fakes import FakeCoordinator, FakeNetwork
from tests.daemon.test_finder import Ipfs, Peers, finder, held


class Peer:
    """Attests the cuts of some intervals."""

    def __init__(self, *indices: int) -> None:
        self.indices = indices

    def attests(self, cut: Any) -> bool:
        return cut.index in self.indices


class Members:
    peers = (Peer(0, 1), Peer(1), Peer())
    ledger = None


class Pinning:
    """Notes what the IPFS node is to have."""

    def __init__(self) -> None:
        self.wanted: list[bytes] = []

    def want(self, roots: Iterable[bytes]) -> None:
        self.wanted = list(roots)


@pytest.fixture
def here(tmp_path: Path) -> Place:
    return Place(tmp_path / "here")


def catalogue(here: Place, finder: Finder | None = None, pinning: object = None) -> Catalogue:
    return Catalogue(
        here.archive,
        cast(Finder, finder),
        Importer(here.store, here.archive),
        cast(Coordinator, Members()),
        cast(IpfsPinning | None, pinning),
    )


async def test_rows_say_who_attests(here: Place) -> None:
    for index in range(3):
        here.settle(index)
    rows = await catalogue(here).rows()
    assert [(row["index"], row["attested_by"]) for row in rows] == [(0, 1), (1, 2), (2, 0)]


async def test_what_was_pinned_without_a_cut_is_listed_too(here: Place) -> None:
    here.settle(0)
    root = here.write(5)
    here.archive.pin_snapshot(root)
    rows = await catalogue(here).rows()
    assert [(row["index"], row["weights"], row["attested_by"]) for row in rows] == [
        (None, to_text(root), 0),
        (0, to_text(root_of(0)), 1),
    ]


async def test_pin_and_unpin(here: Place, tmp_path: Path) -> None:
    there = Place(tmp_path / "there")
    made = there.settle(1)
    pinning = Pinning()
    found = catalogue(here, finder(here, Peers(held(there, made))), pinning)
    row = await found.pin(to_text(made.cid))
    assert (row["index"], row["pinned"], row["attested_by"]) == (1, True, 2)
    assert pinning.wanted == [made.cid]
    await found.unpin(to_text(made.cid))
    here.archive.keep_only([])
    here.store.collect()
    await found.hand_over()
    assert (await found.rows(), pinning.wanted) == ([], [])
    with pytest.raises(StoreError, match="not pinned here"):
        await found.unpin(to_text(made.cid))
    with pytest.raises(WireError, match="not the CID"):
        await found.unpin("x")


async def test_a_file_is_taken_in(here: Place, tmp_path: Path) -> None:
    there = Place(tmp_path / "there")
    made = there.settle(1)
    path = tmp_path / "cut.car"
    path.write_bytes(b"".join(car.write(made.cid, there.archive.blocks(made.cid))))
    pinning = Pinning()
    row = await catalogue(here, pinning=pinning).take(path)
    assert row == {"cid": to_text(made.cid), "weights": to_text(made.weights), "size": made.size, "index": 1}
    assert pinning.wanted == [made.cid]
    assert here.indices == [1]


async def test_the_newest_cuts_go_to_ipfs_first_then_milestones_and_pins(here: Place) -> None:
    made = [here.settle(index, index - 1 if index else None) for index in range(9)]
    here.archive.pin(made[1].encode())
    pinning = Pinning()
    await catalogue(here, pinning=pinning).hand_over()
    assert pinning.wanted == [made[index].cid for index in (8, 7, 6, 4, 1)]
    await catalogue(here).hand_over()


def test_statistics_without_and_with_an_ipfs_node(here: Place, tmp_path: Path) -> None:
    assert catalogue(here).statistics() is None
    pinning = IpfsPinning(here.archive, tmp_path / "pins.json", lambda level, text: None)
    shown = catalogue(here, pinning=pinning).statistics()
    assert shown is not None
    names = set(IpfsStatistics.__dataclass_fields__)
    assert set(shown) <= names and (shown["state"], shown["why"], shown["pins"]) == ("connecting", None, 0)


# --- --from


class Told:
    """The part of `Driver` that is told of the cut."""

    def __init__(self) -> None:
        self.cut: Manifest | None = None

    def starts_from(self, cut: Manifest) -> None:
        self.cut = cut


async def start(here: Place, store: Store, made: Manifest, peers: Peers | None = None) -> Told:
    told = Told()
    await start_from(to_text(made.cid), finder(here, peers), here.archive, store, cast(Driver, told))
    return told


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = Store(tmp_path / "ledger.sqlite", AUTHOR)
    yield made
    made.close()


async def test_a_fresh_node_begins_with_the_cut(here: Place, store: Store, tmp_path: Path) -> None:
    there = Place(tmp_path / "there")
    made = there.settle(5)
    told = await start(here, store, made, Peers(held(there, made)))
    assert told.cut == made
    kept = store.kept(SWARM)
    assert kept.floor == made.encode()
    assert store.block(made.cid) == made.encode()
    assert [(cut.manifest.index, cut.pinned) for cut in here.archive.cuts()] == [(5, False)]


@pytest.mark.parametrize("own", [4, 5, 6])
async def test_a_later_cut_of_this_node_is_not_given_up(here: Place, store: Store, own: int) -> None:
    mine, made = manifest(own), here.settle(5)
    store.carry_out([KeepCut(SWARM, mine.id, mine.encode()), Settle(SWARM, mine.id)])
    await start(here, store, made)
    floor = store.kept(SWARM).floor
    assert (floor == made.encode()) == (own == 4)


async def test_another_swarm_does_not_count(here: Place, store: Store) -> None:
    mine, made = replace(manifest(9), swarm=b"s" * 32), here.settle(5)
    store.carry_out([KeepCut(mine.swarm, mine.id, mine.encode()), Settle(mine.swarm, mine.id)])
    await start(here, store, made)
    assert store.kept(SWARM).floor == made.encode()
    assert store.kept(mine.swarm).floor is None


class Slow(Ipfs):
    """Finds the cut at the fourth try."""

    tries = 0

    async def read(self, cid: bytes, seconds: float | None = None) -> bytes:
        self.tries += 1
        if self.tries < 4:
            raise NetworkError("not yet")
        return await super().read(cid)


async def test_it_waits_for_who_has_it(
    here: Place, store: Store, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(work: Any, *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    there = Place(tmp_path / "there")
    made = there.settle(5)
    told = cast(Driver, Told())
    slow = Slow(held(there, made))
    await start_from(to_text(made.cid), finder(here, None, slow), here.archive, store, told)
    assert slow.tries == 4 and trio.current_time() == pytest.approx(1 + 2 + 4)
    with pytest.raises(NetworkError, match="nobody has"):
        await start_from(to_text(manifest(6).cid), finder(here), here.archive, store, told)
    assert trio.current_time() == pytest.approx(7 + 30)


@pytest.mark.parametrize("topic", ["t", "another"])
async def test_the_task_must_be_of_the_cuts_swarm(here: Place, store: Store, topic: str) -> None:
    genesis = Genesis(LAYOUT, (-24, -20), root_of(0), 1.0, 10)
    network = cast(Network, FakeNetwork("here", {}))
    coordinator = cast(Coordinator, FakeCoordinator(genesis))
    driver = Driver(coordinator, store, here.shelf, network, notify=lambda level, text: None)
    driver.starts_from(replace(manifest(5), swarm=genesis.swarm_id(topic)))
    hello = protocol.Hello(genesis.to_wire(), None, bytes(32), [], 0, LAYOUT.size, 0, 0)
    if topic == FakeCoordinator.topic:
        await driver.hear_trainer(hello)
    else:
        with pytest.raises(TaskError, match=r"interval 5, belongs to another swarm.*Use the topic and task"):
            await driver.hear_trainer(hello)
