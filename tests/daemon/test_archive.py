"""Which cuts stay on the disk, and what is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from learnae.cid import raw_cid, to_text
from learnae.errors import StoreError, WireError
from learnaed.snapshots.archive import MANIFEST
from tests.daemon.cuts import Place, content, manifest, root_of


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
    assert place.indices == [4, 8, 9]
    place.archive.keep_only([])
    assert place.indices == [4, 8]
    assert {pin.root for pin in place.store.pins() if pin.kind == MANIFEST} == {manifest(4, 3).cid, manifest(8, 7).cid}
    assert not place.store.has(root_of(0))


def test_what_the_user_pins_survives_until_it_is_unpinned(place: Place) -> None:
    one, two = place.settle(0), place.settle(1)
    assert place.archive.pin(one.encode()).pinned
    assert place.archive.pin(two.encode()).pinned
    place.archive.keep_only([])
    assert place.indices == [0, 1]
    assert list(place.archive.blocks(one.cid))
    place.archive.unpin(to_text(one.cid))
    place.archive.unpin(to_text(two.weights))
    place.archive.keep_only([])
    place.store.collect()
    assert place.indices == [] and place.store.pins() == () and place.blocks == 0


def test_a_snapshot_without_a_cut_can_be_pinned_too(place: Place) -> None:
    root = place.write(7)
    place.archive.pin_snapshot(root)
    place.archive.keep_only([])
    assert place.indices == [] and place.shelf.has(root)
    place.archive.unpin(to_text(root))
    place.archive.keep_only([])
    assert not place.shelf.has(root)


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
    assert [pin.root for pin in place.store.pins() if pin.kind == MANIFEST] == [manifest(1).cid]


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
