"""Snapshots: their bytes, the blocks that they are kept in, how they survive, and what is refused."""

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

from learnae import snapshot, unixfs
from learnae.blocks import Blocks
from learnae.cid import DAG_CBOR, DAG_PB, RAW, digest_of, is_raw_cid, raw_cid
from learnae.errors import LayoutError, StoreError
from learnae.layout import Layout, TensorSpec
from learnae.replica import Replica
from learnae.unixfs import LEAF
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


@pytest.fixture
def blocks(tmp_path: Path) -> Blocks:
    return Blocks(tmp_path / "blocks")


def lying(blocks: Blocks) -> set[bytes]:
    """The digests of all blocks there."""
    return {stored.digest for stored in blocks}


def test_the_safetensors_library_reads_it(blocks: Blocks, tmp_path: Path) -> None:
    made = replica()
    root = snapshot.write(blocks, made.pieces())
    path = tmp_path / "snapshot.safetensors"
    path.write_bytes(b"".join(snapshot.read(blocks, root.cid)))
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
    root = snapshot.root_of([data])
    assert root.cid.hex() == "01551220" + hashlib.sha256(data).hexdigest()
    assert (root.size, root.tsize) == (len(data), len(data))


def test_the_root_of_several_leaves_is_fixed_for_ever() -> None:
    """`ipfs add --cid-version=1 --raw-leaves --chunker=size-262144` gives the same."""
    data = bytes(LEAF) + b"end"
    leaves = [raw_cid(bytes(LEAF)), raw_cid(b"end")]
    links = [b"\x0a\x24" + cid + b"\x12\x00\x18" for cid in leaves]
    sizes = [b"\x80\x80\x10", b"\x03"]  # as varints
    node = b"".join(b"\x12" + bytes([len(link + size)]) + link + size for link, size in zip(links, sizes, strict=True))
    file = b"\x08\x02\x18\x83\x80\x10\x20" + sizes[0] + b"\x20" + sizes[1]
    node += b"\x0a" + bytes([len(file)]) + file
    root = snapshot.root_of([data])
    assert root.cid.hex() == "01701220" + hashlib.sha256(node).hexdigest()
    assert (root.size, root.tsize) == (len(data), len(data) + len(node))


def test_all_blocks_lie_there_and_nothing_else(blocks: Blocks) -> None:
    made = replica()
    root = snapshot.write(blocks, made.pieces())
    leaves = list(snapshot.cut_leaves(made.pieces()))
    assert len(leaves) == 2 and b"".join(snapshot.read(blocks, root.cid)) == content(made)
    assert lying(blocks) == {digest_of(root.cid), *(digest_of(raw_cid(leaf)) for leaf in leaves)}
    assert not any((blocks.directory / "new").iterdir())
    assert root == snapshot.root_of(replica().pieces())
    assert (root.size, root.tsize) == (len(content(made)), sum(stored.size for stored in blocks))


@given(st.lists(st.integers(0, 3 * LEAF) | st.integers(0, 9), max_size=6))
def test_leaves_do_not_depend_on_the_pieces(sizes: list[int]) -> None:
    whole = np.random.default_rng(1).bytes(sum(sizes))
    ends = np.cumsum([0, *sizes]).tolist()
    pieces = [memoryview(whole)[a:b] for a, b in pairwise(ends)]
    leaves = list(snapshot.cut_leaves(pieces))
    assert b"".join(leaves) == whole
    assert all(len(leaf) == LEAF for leaf in leaves[:-1])
    root = snapshot.root_of(pieces)
    assert root == snapshot.root_of([whole]) == unixfs.build(leaves)
    assert root.size == len(whole)
    assert is_raw_cid(root.cid) == (len(whole) <= LEAF)


def test_a_round_trip_over_the_disk(blocks: Blocks) -> None:
    made = replica()
    root = snapshot.write(blocks, made.pieces())
    again = Replica.from_snapshot(snapshot.read(Blocks(blocks.directory), root.cid), LAYOUT)
    assert again.digest() == made.digest()
    assert again.exponents == made.exponents
    again.apply(np.array([0]), np.array([1], np.int32))
    assert again.copy().digest() == again.digest() != made.digest()


Damage = Callable[[Path], object]


def flip(position: int) -> Damage:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[position] ^= 1
        path.write_bytes(data)

    return damage


@pytest.mark.parametrize("which", ["root", "first leaf", "last leaf"])
@pytest.mark.parametrize(
    "damage",
    [
        flip(0),
        flip(30),
        flip(-1),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
    ],
    ids=["first", "middle", "last", "short", "long", "empty", "gone"],
)
def test_damage_is_noticed(blocks: Blocks, which: str, damage: Damage) -> None:
    root = snapshot.write(blocks, replica().pieces()).cid
    leaves = [raw_cid(leaf) for leaf in snapshot.cut_leaves(replica().pieces())]
    name = digest_of({"root": root, "first leaf": leaves[0], "last leaf": leaves[-1]}[which])
    damage(blocks.directory / name.hex()[:2] / name.hex())
    with pytest.raises(StoreError, match=r"is not whole.* fetched again"):
        Replica.from_snapshot(snapshot.read(blocks, root), LAYOUT)
    assert name not in lying(blocks)
    assert snapshot.write(blocks, replica().pieces()).cid == root
    assert Replica.from_snapshot(snapshot.read(blocks, root), LAYOUT).digest() == replica().digest()


def test_another_snapshot_does_not_stand_in(blocks: Blocks) -> None:
    snapshot.write(blocks, replica(seed=1).pieces())
    with pytest.raises(StoreError, match="is not whole"):
        Replica.from_snapshot(snapshot.read(blocks, snapshot.root_of(replica().pieces()).cid), LAYOUT)


@pytest.mark.parametrize("codec", [DAG_PB, DAG_CBOR])
@pytest.mark.parametrize("block", [b"", b"\xa0", bytes(100)])
def test_a_root_that_is_no_file(blocks: Blocks, codec: int, block: bytes) -> None:
    with pytest.raises(StoreError):
        Replica.from_snapshot(snapshot.read(blocks, blocks.put(codec, block)), LAYOUT)


def test_a_node_that_lies_about_the_sizes(blocks: Blocks) -> None:
    leaves = list(snapshot.cut_leaves(replica().pieces()))
    with blocks.batch() as batch:
        for leaf in leaves:
            batch.put(RAW, leaf)
        lie = unixfs.assemble([(raw_cid(leaf), len(leaf) - number) for number, leaf in enumerate(leaves)], batch.put)
    with pytest.raises(StoreError, match=r"is no file: .* promised"):
        Replica.from_snapshot(snapshot.read(blocks, lie.cid), LAYOUT)


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
def test_a_sound_file_that_is_not_a_snapshot_of_this_model(blocks: Blocks, data: bytes) -> None:
    root = snapshot.write(blocks, [data])
    assert b"".join(snapshot.read(blocks, root.cid)) == data
    with pytest.raises(StoreError):
        Replica.from_snapshot(snapshot.read(blocks, root.cid), LAYOUT)


def test_a_header_longer_than_a_leaf(blocks: Blocks) -> None:
    layout = Layout(tuple(TensorSpec(f"{i:0500}", (1,), "float32") for i in range(700)))
    made = replica(layout, (-24,) * 700)
    root = snapshot.write(blocks, made.pieces())
    assert Replica.from_snapshot(snapshot.read(blocks, root.cid), layout).digest() == made.digest()


def test_a_parameter_with_the_name_that_safetensors_keeps() -> None:
    with pytest.raises(LayoutError, match="rename"):
        snapshot.header(Layout((TensorSpec("__metadata__", (1,), "float32"),)), (-24,))


def test_neither_writing_nor_reading_needs_memory_in_proportion_to_the_model(blocks: Blocks, tmp_path: Path) -> None:
    """A batch holds 16 leaves, and each of its threads one more; the model has 123."""
    layout = Layout((TensorSpec("w", (8_000_000,), "float32"),))
    made = Replica(layout, (-24,), np.arange(layout.size, dtype=np.int32))
    snapshot.write(Blocks(tmp_path / "warm"), replica().pieces())
    tracemalloc.start()
    try:
        root = snapshot.write(blocks, made.pieces())
        assert tracemalloc.get_traced_memory()[1] < 30 * LEAF
        tracemalloc.reset_peak()
        assert sum(map(len, snapshot.read(blocks, root.cid))) == root.size > 120 * LEAF
        assert tracemalloc.get_traced_memory()[1] < 4 * LEAF
    finally:
        tracemalloc.stop()


def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be"):
        snapshot.write(Blocks(tmp_path / "file"), replica().pieces())


def test_a_failed_write_leaves_nothing(blocks: Blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learnae.blocks.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "no space left")))
    with pytest.raises(StoreError, match="no space"):
        snapshot.write(blocks, replica().pieces())
    assert not lying(blocks)
    assert not [path for path in blocks.directory.rglob("*") if path.is_file()]
