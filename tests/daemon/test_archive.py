"""Which cuts stay on the disk, and what is told of them."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from learnae.cid import raw_cid, to_text
from learnae.errors import StoreError, WireError
from learnae.manifest import Manifest
from learnae.unixfs import LEAF
from learnaed.blockstore import BlockStore
from learnaed.snapshots import Archive, Shelf
from learnaed.snapshots.archive import MANIFEST, NEWEST, Kept, lasting
from learnaed.snapshots.shelf import CUT
from tests.daemon.cuts import SWARM, Place, content, manifest, root_of


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_settled_cuts_are_listed_in_order(place: Place) -> None:
    for index in (2, 0, 1):
        place.settle(index)
    assert place.indices == [0, 1, 2]
    row = place.archive.cuts()[0].row()
    made = manifest(0)
    assert row.pop("since") > 1e9
    assert row == {
        "index": 0,
        "cid": to_text(made.cid),
        "weights": to_text(made.weights),
        "size": len(content(0)),
        "updates": 1,
        "samples": 5,
        "loss": 0.5,
        "authors": 1,
        "milestone": False,
        "pinned": False,
    }


def test_a_cut_without_its_snapshot_is_not_kept(place: Place) -> None:
    place.archive.settled(manifest(0).encode())
    assert place.indices == [] and place.store.pins() == ()


def test_only_what_is_wanted_and_milestones_stay(place: Place) -> None:
    for index in range(10):
        place.settle(index, index - 1 if index else None)
    assert [kept.manifest.index for kept in place.archive.cuts() if kept.milestone] == [4, 8]
    place.archive.keep_only([root_of(9)])
    place.store.collect()
    assert place.indices == [4, 8, 9]
    place.archive.keep_only([])
    place.store.collect()
    assert place.indices == [4, 8]
    assert {pin.root for pin in place.store.pins() if pin.kind == MANIFEST} == {manifest(4, 3).cid, manifest(8, 7).cid}
    assert not place.store.has(root_of(0))


def test_of_old_milestones_ever_fewer_stay(place: Place) -> None:
    for number in range(1, 13):
        index = 4 * number
        place.settle(index, index - 1)
        place.archive.keep_only([root_of(index)])
    assert place.indices == [4 * number for number in (4, 6, 8, 9, 10, 11, 12)]
    place.store.collect()
    assert place.store.missing(root_of(4)) and not place.store.missing(root_of(24))


def test_old_milestones_stay_while_the_swarm_or_the_user_needs_them(place: Place) -> None:
    made = [place.settle(4 * number, 4 * number - 1) for number in range(1, 10)]
    place.archive.pin(made[0].encode())
    place.archive.keep_only([made[2].weights])
    assert place.indices == [4 * number for number in (1, 2, 3, 4, 6, 7, 8, 9)]


@pytest.mark.parametrize("count", [1, 10, 1000, 100_000])
def test_how_many_milestones_there_are(count: int) -> None:
    """Thinned one by one or all at once: the same, the newest among them, and none comes back."""
    stay: set[int] = set()
    for number in range(1, count + 1):
        stay = lasting({*stay, number})
        if number in (count // 2, count):
            assert stay == lasting(range(1, number + 1))
    assert stay >= set(range(max(1, count - NEWEST + 1), count + 1))
    assert len(stay) <= NEWEST + (NEWEST / 2 + 1) * math.log2(count)
    ages = sorted(count - number for number in stay)
    assert all(later <= 2 * (earlier + NEWEST) for earlier, later in pairwise(ages))


def test_what_the_user_pins_survives_until_it_is_unpinned(place: Place) -> None:
    one, two = place.settle(0), place.settle(1)
    assert place.archive.pin(one.encode()).pinned
    assert place.archive.pin(two.encode()).pinned
    place.archive.keep_only([])
    place.store.collect()
    assert place.indices == [0, 1]
    assert list(place.archive.blocks(one.cid))
    place.archive.unpin(to_text(one.cid))
    place.archive.unpin(to_text(two.weights))
    place.archive.keep_only([])
    place.store.collect()
    place.store.collect()
    assert place.indices == [] and place.store.pins() == () and place.blocks == 0


def test_a_snapshot_without_a_cut_can_be_pinned_too(place: Place) -> None:
    root = place.write(7)
    place.archive.pin_snapshot(root)
    (found,) = place.archive.loose()
    row = found.row()
    assert set(row) == set(Kept(manifest(0), 0.0, False, False).row())
    assert (row["cid"], row["weights"], row["size"], row["index"]) == (
        to_text(root),
        to_text(root),
        len(content(7)),
        None,
    )
    place.archive.keep_only([])
    place.store.collect()
    assert place.indices == [] and place.shelf.has(root)
    place.archive.unpin(to_text(root))
    place.archive.keep_only([])
    place.store.collect()
    assert not place.shelf.has(root)
    assert place.archive.loose() == []


def test_the_snapshot_of_a_cut_is_listed_once(place: Place) -> None:
    made = place.settle(0)
    place.archive.pin(made.encode())
    place.archive.pin_snapshot(made.weights)
    assert place.archive.loose() == [] and place.indices == [0]


def test_what_is_not_pinned_cannot_be_unpinned(place: Place) -> None:
    made = place.settle(0)
    for cid in (made.cid, made.weights, raw_cid(b"other")):
        with pytest.raises(StoreError, match="not pinned here: `learnae snapshots`"):
            place.archive.unpin(to_text(cid))
    with pytest.raises(WireError, match="not the CID"):
        place.archive.unpin("nonsense")


def test_a_pin_needs_the_snapshot(place: Place) -> None:
    with pytest.raises(StoreError, match="not here"):
        place.archive.pin(manifest(0).encode())
    assert place.store.pins() == ()
    with pytest.raises(WireError):
        place.archive.pin(b"no manifest")


def test_the_cuts_outlive_a_restart(place: Place, tmp_path: Path) -> None:
    place.archive.pin(place.settle(0).encode())
    place.settle(1, 0)
    place.store.close()
    again = Place(tmp_path)
    assert [(kept.manifest.index, kept.pinned) for kept in again.archive.cuts()] == [(0, True), (1, False)]


def test_a_damaged_manifest_is_no_cut_and_does_not_stay(place: Place) -> None:
    place.settle(0)
    place.settle(1)
    place.damage(manifest(0).cid)
    assert place.indices == [1]
    place.archive.keep_only([root_of(0), root_of(1)])
    place.store.collect()
    assert [pin.root for pin in place.store.pins() if pin.kind == MANIFEST] == [manifest(1).cid]


def test_manifests_are_not_read_again_whenever_somebody_asks(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(5):
        place.settle(index)
    place.archive.cuts()
    before = place.store.blocks.statistics().read
    assert place.indices == [0, 1, 2, 3, 4]
    assert place.store.blocks.statistics().read == before
    size = len(manifest(4).encode())
    monkeypatch.setattr("learnaed.snapshots.archive._MOST_READ", 2 * size)
    place.damage(manifest(0).cid)
    assert place.indices == [1, 2, 3, 4]
    again = Archive(place.shelf)
    for _ in range(2):
        assert [kept.manifest for kept in again.cuts()] == [manifest(index) for index in range(1, 5)]
    assert len(again._read) == 2


def test_cuts_are_found_by_either_name(place: Place) -> None:
    made = place.settle(3)
    for cid in (made.cid, made.weights):
        found = place.archive.find(to_text(cid))
        assert found is not None and found.manifest == made
    assert place.archive.find(to_text(raw_cid(b"other"))) is None


def test_blocks_come_from_the_root_downwards(place: Place) -> None:
    made = place.settle(0)
    blocks = list(place.archive.blocks(made.cid))
    assert [cid for cid, _ in blocks[:2]] == [made.cid, made.weights]
    assert blocks[0][1] == made.encode()
    assert b"".join(block for _, block in blocks[2:]) == content(0)
    assert list(place.archive.blocks(made.weights)) == blocks[1:]


def test_missing_and_damaged_blocks_are_told(place: Place) -> None:
    made = place.settle(0)
    leaf = list(place.archive.blocks(made.cid))[-1][0]
    place.damage(leaf)
    with pytest.raises(StoreError, match=f"missing: {to_text(leaf)}"):
        list(place.archive.blocks(made.cid))
    place.damage(made.cid)
    with pytest.raises(StoreError, match="is missing"):
        list(place.archive.blocks(made.cid))
    other = place.store.blocks.put(0x71, b"\x01")
    with pytest.raises(StoreError, match="neither a cut nor a snapshot"):
        list(place.archive.blocks(other))


def another(made: Manifest, swarm: bytes = bytes(32)) -> bytes:
    """The manifest of a cut with these weights, of another swarm."""
    return replace(made, swarm=swarm).encode()


def test_the_newest_cut_of_another_swarm_stays_as_a_milestone(place: Place) -> None:
    for index in (901, 902, 903):
        place.write(index)
        place.archive.settled(another(manifest(index)))
    place.settle(1)
    place.settle(2, 1)
    place.archive.keep_only([root_of(2)], SWARM)
    assert place.indices == [2, 903]
    assert [kept.manifest.index for kept in place.archive.cuts() if kept.milestone] == [903]
    place.archive.keep_only([root_of(903)], bytes(32))
    assert place.indices == [2, 903]


def test_a_cut_that_was_settled_before_a_crash_is_archived_afterwards(place: Place) -> None:
    place.write(3)
    place.archive.caught_up(manifest(3).encode())
    assert place.indices == [3]
    place.archive.caught_up(manifest(3).encode())
    assert place.indices == [3]


def test_a_milestone_stays_one_when_its_snapshot_comes_again(place: Place) -> None:
    made = place.settle(4, 3)
    place.store.pin(made.weights, CUT)
    (pin,) = [pin for pin in place.store.pins() if pin.root == made.weights]
    assert pin.milestone and pin.label == "cut 4"


def test_after_the_pins_were_lost_all_whole_cuts_are_kept(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for index in range(3):
        place.settle(index, index - 1 if index else None)
    place.store.close()
    for path in tmp_path.glob("pins.sqlite*"):
        path.unlink()
    place.damage(raw_cid(content(1)[:LEAF]))
    store = BlockStore(tmp_path, cap=2**30, margin=0)
    archive = Archive(Shelf(store))
    assert not store.collect().finished
    assert store.get(raw_cid(content(1)[:LEAF])) is None
    assert archive.recover() == 2
    assert [(kept.manifest.index, kept.pinned) for kept in archive.cuts()] == [(0, True), (2, True)]
    archive.keep_only([])
    assert store.collect().finished
    assert not store.missing(root_of(0)) and not store.missing(root_of(2)) and store.missing(root_of(1))
    store.close()
