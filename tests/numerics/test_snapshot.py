"""Snapshot files: their bytes, how they survive, and what is refused."""

from __future__ import annotations

import hashlib
import json
import struct
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

from learnae import cbor, snapshot
from learnae.cid import is_raw_cid, raw_cid
from learnae.errors import LayoutError, StoreError, WireError
from learnae.layout import Layout, TensorSpec
from learnae.replica import Replica
from learnae.snapshot import LEAF, Links, parse_links
from tests.numerics.samples import layouts

LAYOUT = Layout(
    (
        TensorSpec("z.weight", (30, 3000), "float32"),
        TensorSpec("é", (), "bfloat16"),
        TensorSpec('a "b"', (2, 0), "float32"),
        TensorSpec("a.bias", (7,), "float64"),
    )
)
EXPONENTS = (-24, -23, -24, 5)


def replica(layout: Layout = LAYOUT, exponents: tuple[int, ...] = EXPONENTS, seed: int = 0) -> Replica:
    weights = np.random.default_rng(seed).integers(-(2**31), 2**31, layout.size, np.int32)
    return Replica(layout, exponents, weights)


def content(made: Replica) -> bytes:
    return b"".join(snapshot.cut_leaves(made.pieces()))


def test_the_safetensors_library_reads_it(tmp_path: Path) -> None:
    made = replica()
    links = snapshot.write(tmp_path, made.pieces())
    path = snapshot.snapshot_path(tmp_path, links.cid)
    tensors = load_file(path)
    assert set(tensors) == {tensor.name for tensor in LAYOUT.tensors}
    for offset, tensor in zip(LAYOUT.offsets, LAYOUT.tensors, strict=True):
        assert tensors[tensor.name].dtype == np.int32
        assert tensors[tensor.name].shape == tensor.shape
        assert (tensors[tensor.name].ravel() == made.weights[offset : offset + tensor.size]).all()
    with safe_open(path, "numpy") as file:
        assert file.metadata() == {"format": "learnae-replica-1", "exponents": "-24,-23,-24,5"}


@given(layouts(), st.integers(0, 99))
def test_any_replica_comes_back(layout: Layout, seed: int) -> None:
    made = replica(layout, tuple(range(-24, len(layout.tensors) - 24)), seed)
    leaves = snapshot.cut_leaves(made.pieces())
    exponents, first = snapshot.read_header(leaves, layout)
    assert exponents == made.exponents
    assert (np.frombuffer(first + b"".join(leaves), "<i4") == made.weights).all()


def test_the_bytes_are_fixed_for_ever() -> None:
    """They name the snapshot on every machine and with every library version."""
    layout = Layout((TensorSpec("w", (2, 2), "float32"), TensorSpec("b", (1,), "float32")))
    data = content(Replica(layout, (-24, -23), np.array([1, -1, 2**31 - 1, -(2**31), 258], np.int32)))
    text = (
        b'{"__metadata__":{"exponents":"-24,-23","format":"learnae-replica-1"},'
        b'"b":{"data_offsets":[16,20],"dtype":"I32","shape":[1]},"w":{"data_offsets":[0,16],"dtype":"I32","shape":[2,2]}}'
    )
    text += b" " * (-len(text) % 8)
    numbers = b"\1\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f\0\0\0\x80\2\1\0\0"
    assert data == struct.pack("<Q", len(text)) + text + numbers
    links = snapshot.links_of([data])
    assert links.encode() == cbor.encode([len(data), [raw_cid(data)]])
    assert links.cid.hex() == "01551220" + hashlib.sha256(links.encode()).hexdigest()


def test_files_lie_under_half_of_their_hash(tmp_path: Path) -> None:
    links = snapshot.write(tmp_path, replica().pieces())
    name = links.cid.hex()[8:40]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.links", f"{name}.safetensors"]
    assert snapshot.exists(tmp_path, links.cid)
    assert not snapshot.exists(tmp_path, raw_cid(b"another"))
    assert parse_links((tmp_path / f"{name}.links").read_bytes()) == links == snapshot.links_of(replica().pieces())


@given(st.lists(st.integers(0, 3 * LEAF) | st.integers(0, 9), max_size=6))
def test_leaves_do_not_depend_on_the_pieces(sizes: list[int]) -> None:
    whole = np.random.default_rng(1).bytes(sum(sizes))
    ends = np.cumsum([0, *sizes]).tolist()
    pieces = [memoryview(whole)[a:b] for a, b in pairwise(ends)]
    leaves = list(snapshot.cut_leaves(pieces))
    assert b"".join(leaves) == whole
    assert all(len(leaf) == LEAF for leaf in leaves[:-1])
    assert snapshot.links_of(pieces) == snapshot.links_of([whole])
    if whole:
        links = snapshot.links_of(pieces)
        assert parse_links(links.encode()) == links
        assert all(map(is_raw_cid, links.leaves))


@pytest.mark.parametrize(
    "value",
    [
        None,
        [0, []],
        [1, []],
        [LEAF, [raw_cid(b"")] * 2],
        [LEAF + 1, [raw_cid(b"")]],
        [5, [b"short"]],
        [5, [raw_cid(b"")], 1],
        [2**60, [raw_cid(b"")]],
    ],
)
def test_links_that_cannot_be(value: object) -> None:
    with pytest.raises(WireError):
        parse_links(cbor.encode(value))


def test_a_round_trip_over_the_disk(tmp_path: Path) -> None:
    made = replica()
    links = snapshot.write(tmp_path, made.pieces())
    again = Replica.from_snapshot(snapshot.snapshot_path(tmp_path, links.cid), LAYOUT)
    assert again.digest() == made.digest()
    assert again.exponents == made.exponents
    again.apply(np.array([0]), np.array([1], np.int32))
    assert again.copy().digest() == again.digest() != made.digest()


Damage = Callable[[Path], None]


def flip(position: int) -> Damage:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[position] ^= 1
        path.write_bytes(data)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        flip(0),
        flip(100),
        flip(LEAF + 5),
        flip(-1),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[:LEAF]),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: path.unlink(),
        lambda path: path.with_suffix(".links").unlink(),
        lambda path: path.with_suffix(".links").write_bytes(b"\x82"),
        lambda path: path.with_suffix(".links").write_bytes(Links(3, (raw_cid(b"abc"),)).encode()),
        lambda path: path.with_suffix(".links").write_bytes(Links(1, (bytes(36),)).encode()),
    ],
)
def test_damage_is_noticed(tmp_path: Path, damage: Damage) -> None:
    path = snapshot.snapshot_path(tmp_path, snapshot.write(tmp_path, replica().pieces()).cid)
    damage(path)
    with pytest.raises(StoreError):
        Replica.from_snapshot(path, LAYOUT)


def rewritten(change: Callable[[dict[str, object]], object]) -> bytes:
    """A file whose header says something else, and is otherwise sound."""
    data = content(replica())
    length = int.from_bytes(data[:8], "little")
    about = json.loads(data[8 : 8 + length])
    change(about)
    text = json.dumps(about, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"\xff" * 100,
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        rewritten(lambda about: about.update(__metadata__={"format": "learnae-replica-1"})),
        rewritten(lambda about: about.update(__metadata__={"format": "other", "exponents": "-24,-23,-24,5"})),
        rewritten(lambda about: about.update(__metadata__={"format": "learnae-replica-1", "exponents": "1,2"})),
        rewritten(lambda about: about.update(__metadata__={"format": "learnae-replica-1", "exponents": "x"})),
        rewritten(
            lambda about: about.update(__metadata__={"format": "learnae-replica-1", "exponents": "-24,-23,-24,500"})
        ),
        rewritten(lambda about: about.pop("a.bias")),
        content(replica())[:-4],
        content(replica()) + bytes(4),
        content(replica(Layout((TensorSpec("w", (9,), "float32"),)), (-24,))),
    ],
)
def test_a_sound_file_that_is_not_a_snapshot_of_this_model(tmp_path: Path, data: bytes) -> None:
    links = snapshot.write(tmp_path, [data])
    with pytest.raises(StoreError):
        Replica.from_snapshot(snapshot.snapshot_path(tmp_path, links.cid), LAYOUT)


def test_a_header_longer_than_a_leaf(tmp_path: Path) -> None:
    layout = Layout(tuple(TensorSpec(f"{i:0500}", (1,), "float32") for i in range(700)))
    made = replica(layout, (-24,) * 700)
    links = snapshot.write(tmp_path, made.pieces())
    assert Replica.from_snapshot(snapshot.snapshot_path(tmp_path, links.cid), layout).digest() == made.digest()


def test_a_parameter_with_the_name_that_safetensors_keeps() -> None:
    with pytest.raises(LayoutError, match="rename"):
        snapshot.header(Layout((TensorSpec("__metadata__", (1,), "float32"),)), (-24,))


def test_writing_needs_no_memory_in_proportion_to_the_model(tmp_path: Path) -> None:
    layout = Layout((TensorSpec("w", (8_000_000,), "float32"),))
    made = Replica(layout, (-24,), np.zeros(layout.size, np.int32))
    snapshot.write(tmp_path / "warm", replica().pieces())
    tracemalloc.start()
    try:
        snapshot.write(tmp_path, made.pieces())
        assert tracemalloc.get_traced_memory()[1] < 4 * LEAF
    finally:
        tracemalloc.stop()


def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        snapshot.write(tmp_path / "file", replica().pieces())


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learnae.snapshot.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "no space left")))
    with pytest.raises(StoreError, match="no space"):
        snapshot.write(tmp_path, replica().pieces())
    assert list(tmp_path.iterdir()) == []
