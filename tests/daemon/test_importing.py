"""`learnae import`: what comes back from files, and what does not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from learnae import car, dagcbor, unixfs
from learnae.cid import DAG_CBOR, make_cid, raw_cid
from learnae.dagcbor import Link
from learnae.errors import StoreError, WireError
from learnaed.snapshots import Imported, Importer
from tests.daemon.cuts import Place, content, manifest, root_of
from tests.ipfs.dags import varint


@pytest.fixture
def there(tmp_path: Path) -> Place:
    """Where the files come from."""
    place = Place(tmp_path / "there")
    place.settle(0)
    return place


@pytest.fixture
def here(tmp_path: Path) -> Place:
    return Place(tmp_path / "here")


def take(here: Place, data: bytes) -> Imported:
    path = here.store.blocks.directory.parent / "file"
    path.write_bytes(data)
    return Importer(here.store, here.archive).file(path)


def written(root: bytes, blocks: Sequence[car.Block]) -> bytes:
    return b"".join(car.write(root, blocks))


def test_a_cut_comes_back_from_a_car_file(there: Place, here: Place) -> None:
    made = manifest(0)
    blocks = list(there.archive.blocks(made.cid))
    found = take(here, written(made.cid, blocks))
    assert found == Imported(made.cid, made.weights, len(content(0)), 0)
    assert found.row()["index"] == 0
    here.archive.keep_only([])
    here.store.collect()
    assert [(kept.manifest, kept.pinned) for kept in here.archive.cuts()] == [(made, True)]
    assert list(here.archive.blocks(made.cid)) == blocks


@pytest.mark.parametrize("form", ["car", "safetensors"])
def test_a_snapshot_alone_comes_back(there: Place, here: Place, form: str) -> None:
    root = root_of(0)
    data = content(0) if form == "safetensors" else written(root, list(there.archive.blocks(root)))
    assert take(here, data) == Imported(root, root, len(content(0)), None)
    here.archive.keep_only([])
    here.store.collect()
    assert b"".join(here.store.read(root)) == content(0)


def test_what_is_here_may_be_missing_in_the_file(there: Place, here: Place) -> None:
    here.write(0)
    made = manifest(0)
    assert take(here, written(made.cid, list(there.archive.blocks(made.cid))[:1])).index == 0


@pytest.mark.parametrize("form", ["car", "safetensors"])
def test_what_is_here_needs_no_room_twice(there: Place, here: Place, form: str) -> None:
    root = root_of(0)
    data = content(0) if form == "safetensors" else written(root, list(there.archive.blocks(root)))
    take(here, data)
    here.store.set_cap(here.store.statistics().bytes + 1000)
    assert take(here, data).cid == root
    assert here.store.statistics().reserved == 0


def test_what_does_not_belong_is_left_out(there: Place, here: Place) -> None:
    made = manifest(0)
    blocks = list(there.archive.blocks(made.cid))
    stranger = b"who are you"
    take(here, written(made.cid, [blocks[0], (raw_cid(stranger), stranger), *blocks[1:], *blocks]))
    assert here.blocks == len(blocks)


def nothing_stays(here: Place) -> None:
    assert (here.blocks, here.store.pins(), here.store.statistics().leases) == (0, (), 0)
    assert here.store.statistics().bytes == 0
    assert not list((here.store.blocks.directory / "new").glob("*"))


@pytest.mark.parametrize("seed", range(12))
def test_nothing_of_a_file_that_is_cut_off_stays(there: Place, here: Place, seed: int) -> None:
    made = manifest(0)
    whole = written(made.cid, list(there.archive.blocks(made.cid))) if seed % 2 else content(0)
    with pytest.raises(WireError, match=r"file cannot be imported: "):
        take(here, whole[: random.Random(seed).randrange(len(whole))])
    nothing_stays(here)


def test_nothing_stays_of_a_file_that_ends_between_two_blocks(there: Place, here: Place) -> None:
    made = manifest(0)
    blocks = list(there.archive.blocks(made.cid))
    for count in range(len(blocks)):
        with pytest.raises(WireError, match="blocks are missing, the first of them baf"):
            take(here, written(made.cid, blocks[:count]))
        nothing_stays(here)
    with pytest.raises(WireError, match="stands before what links to it"):
        take(here, written(made.cid, blocks[::-1]))
    nothing_stays(here)


def hostile() -> dict[str, tuple[bytes, str]]:
    made = manifest(0)
    tree: dict[bytes, bytes] = {}

    def put(codec: int, block: bytes) -> bytes:
        tree[make_cid(codec, block)] = block
        return make_cid(codec, block)

    other = unixfs.build([bytes(300), bytes(200)], put)
    snapshot = dict(reversed(tree.items()))
    liar = replace(made, weights=other.cid)
    below = replace(made, weights=made.cid)
    cid = make_cid(DAG_CBOR, b"\x01")
    two = dagcbor.encode({"roots": [Link(made.cid), Link(other.cid)], "version": 1})
    return {
        "no cut": (written(cid, [(cid, b"\x01")]), "expected"),
        "no snapshot": (written(other.cid, list(snapshot.items())), "no snapshot of a swarm"),
        "not this snapshot": (written(liar.cid, [(liar.cid, liar.encode()), *snapshot.items()]), "no snapshot of a"),
        "a cut of a cut": (
            written(below.cid, [(below.cid, below.encode()), (made.cid, made.encode())]),
            "a cut in the place of a snapshot",
        ),
        "no file": (b"PK\x03\x04" + bytes(1000), "not a CAR file"),
        "empty": (b"", "empty"),
        "json": (bytes(8) + b'{"a": 1}', "no snapshot of a swarm"),
        "huge header": (b"\xff\xff\xff\x7f\0\0\0\0{" + bytes(100), "its header is too long"),
        "too long": (content(0) + b"more", "more or fewer weights"),
        "two roots": (varint(len(two)) + two, "2 roots"),
    }


@pytest.mark.parametrize("name", list(hostile()))
def test_nothing_of_a_hostile_file_stays(here: Place, name: str) -> None:
    data, message = hostile()[name]
    with pytest.raises(WireError, match=message):
        take(here, data)
    nothing_stays(here)


def test_a_wrong_size_in_the_cut(there: Place, here: Place) -> None:
    liar = replace(manifest(0), size=10)
    blocks = list(there.archive.blocks(root_of(0)))
    with pytest.raises(WireError, match="tells of a snapshot of 10 bytes"):
        take(here, written(liar.cid, [(liar.cid, liar.encode()), *blocks]))
    nothing_stays(here)


def test_the_cap_holds(there: Place, tmp_path: Path) -> None:
    small = Place(tmp_path / "small", cap=2**19)
    made = manifest(0)
    for data in (written(made.cid, list(there.archive.blocks(made.cid))), content(0)):
        with pytest.raises(StoreError, match="room"):
            take(small, data)
        nothing_stays(small)


def test_a_full_disk(there: Place, here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    made = manifest(0)
    monkeypatch.setattr("learnae.blocks._write_all", full)
    for data in (written(made.cid, list(there.archive.blocks(made.cid))), content(0)):
        with pytest.raises(StoreError, match="No space left"):
            take(here, data)
        nothing_stays(here)


@pytest.mark.parametrize("form", ["car", "safetensors"])
def test_how_far_it_is(there: Place, here: Place, form: str) -> None:
    made = manifest(0)
    whole = content(0) if form == "safetensors" else written(made.cid, list(there.archive.blocks(made.cid)))
    path = here.store.blocks.directory.parent / "file"
    path.write_bytes(whole)
    importer, seen = Importer(here.store, here.archive), []
    importer.file(path, lambda: seen.append(importer.progress))
    assert all(at is not None and (at.file, at.size) == ("file", len(whole)) for at in seen)
    done = [at.done for at in seen if at is not None]
    assert done == sorted(done) and len(done) >= 3 and done[-1] == len(whole)
    assert importer.progress is None
    path.write_bytes(whole[:-1])
    with pytest.raises(WireError):
        importer.file(path)
    assert importer.progress is None


def test_it_can_be_called_off(here: Place) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt

    path = here.store.blocks.directory.parent / "file"
    path.write_bytes(content(0))
    with pytest.raises(KeyboardInterrupt):
        Importer(here.store, here.archive).file(path, check)
    nothing_stays(here)


def test_only_files_are_read(here: Place, tmp_path: Path) -> None:
    importer = Importer(here.store, here.archive)
    for path in (tmp_path, tmp_path / "none", Path("relative"), tmp_path / ("x" * 400)):
        with pytest.raises(StoreError, match=r"no file|cannot be read"):
            importer.file(path)
