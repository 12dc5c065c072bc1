from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnae import car
from learnae.cid import MAX_BLOCK
from learnae.errors import WireError
from tests.ipfs.dags import cid, dag, noise, varint

BLOCKS = st.lists(st.tuples(st.sampled_from([0x55, 0x70, 0x71]), st.binary(max_size=300)), max_size=8).map(
    lambda pairs: [(cid(codec, block), block) for codec, block in pairs]
)
ROOT = cid(0x71, b"root")


class Trickle(io.BytesIO):
    """Reads as a socket does: less than was asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(7, -1 if size is None else size))


def file(blocks: Sequence[car.Block], root: bytes = ROOT) -> bytes:
    return b"".join(car.write(root, blocks))


def read(data: bytes) -> tuple[tuple[bytes, ...], list[car.Block]]:
    roots, blocks = car.read(io.BytesIO(data))
    return roots, list(blocks)


def wrapped(inner: bytes, padding: int = 0, index: bytes = b"an index") -> bytes:
    """CARv2 around a CARv1."""
    begin = 11 + 40 + padding
    numbers = b"".join(number.to_bytes(8, "little") for number in (begin, len(inner), begin + len(inner)))
    return bytes.fromhex("0aa16776657273696f6e02") + bytes(16) + numbers + bytes(padding) + inner + index


@given(BLOCKS)
def test_what_is_written_is_read(blocks: list[car.Block]) -> None:
    assert read(file(blocks)) == ((ROOT,), blocks)
    roots, read_slowly = car.read(Trickle(file(blocks)))
    assert (roots, list(read_slowly)) == ((ROOT,), blocks)


@given(BLOCKS, st.integers(0, 100))
def test_the_inner_file_of_carv2_is_read_and_its_index_is_not(blocks: list[car.Block], padding: int) -> None:
    assert read(wrapped(file(blocks), padding)) == ((ROOT,), blocks)


def test_the_header_is_the_one_of_the_specification() -> None:
    # The example of https://ipld.io/specs/transport/car/carv1/, with our root.
    assert file([], ROOT) == bytes.fromhex("3aa265726f6f747381d82a582500") + ROOT + bytes.fromhex("6776657273696f6e01")


@given(BLOCKS, st.data())
def test_a_file_that_is_cut_off_yields_whole_blocks_and_then_names_the_offset(
    blocks: list[car.Block], data: st.DataObject
) -> None:
    whole = file(blocks)
    ends = [len(file(blocks[:n])) for n in range(len(blocks) + 1)]
    end = data.draw(st.integers(0, len(whole) - 1))
    got: list[car.Block] = []

    def collect() -> None:
        got.extend(car.read(io.BytesIO(whole[:end]))[1])

    if end in ends:  # Nothing in the format shows that more should follow.
        collect()
    else:
        with pytest.raises(WireError, match="empty" if end == 0 else "byte [0-9]+ .*cut off|cut off at byte [0-9]+"):
            collect()
    assert got == blocks[: sum(limit <= end for limit in ends[1:])]


@given(st.lists(st.binary(min_size=1, max_size=100), min_size=1, max_size=4, unique=True), st.data())
def test_a_flipped_bit_never_goes_unnoticed(contents: list[bytes], data: st.DataObject) -> None:
    blocks = [(cid(0x55, content), content) for content in contents]
    whole = bytearray(file(blocks))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    try:
        roots, got = read(bytes(whole))
    except WireError:
        return
    # What may change is only which name stands before the same bytes: the codec of a CID, or the root.
    assert [(name[-32:], block) for name, block in got] == [(name[-32:], block) for name, block in blocks]
    assert len(roots) == 1


@given(st.binary(max_size=400))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        read(data)


@given(st.binary(max_size=200))
def test_garbage_after_a_header_is_refused(data: bytes) -> None:
    roots, blocks = car.read(io.BytesIO(file([]) + data))
    assert roots == (ROOT,)
    if data:
        with pytest.raises(WireError, match="CAR file"):
            list(blocks)


def section(name: bytes, block: bytes) -> bytes:
    return varint(len(name) + len(block)) + name + block


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"PK\x03\x04" + bytes(100), "not a CAR file"),
        (b"\xff" * 20, "too large"),
        (b"\x80" * 20, "too large"),
        (b"\x80\x00", "empty section at byte 0"),
        (varint(5000) + bytes(5000), "at most 4096"),
        (b"\x01\xa0", "names no version"),
        (bytes.fromhex("0aa16776657273696f6e03"), "version 3"),
        (bytes.fromhex("0aa16776657273696f6e01"), "no list of roots"),
        (bytes.fromhex("0aa16776657273696f6e02"), "cut off at byte 11"),
        (wrapped(wrapped(file([]))), "version 2"),
        (wrapped(file([]), padding=2**20 + 1), "cannot be"),
        (wrapped(file([]))[:60], "cut off at byte 60"),
        (file([]).replace(b"\x00\x01\x71", b"\x01\x01\x71"), "header at byte 1: .*not a link to a block under SHA-256"),
        (file([]).replace(ROOT, b"\x01\x78" + ROOT[2:]), "header at byte 1: .*not a link to a block under SHA-256"),
        (file([]) + b"\x00", "empty section at byte 59"),
        (file([]) + b"\x81\x00", "not written the short way"),
        (file([]) + varint(3 * 2**20), "a section of 3145728 bytes at byte 63"),
        (file([]) + section(cid(0x55, bytes(2**21 + 1)), bytes(2**21 + 1)), "2097153 bytes"),
        (file([]) + section(cid(0x55, b"one"), b"two"), "does not have the hash"),
        (file([]) + section(b"\x12\x20" + bytes(32), b"old"), "CIDv0"),
        (file([]) + section(b"\x01\x78" + cid(0x55, b"git")[2:], b"git"), "codec 0x78"),
        (file([]) + section(b"\x01\x55\x00\x03abc", b""), "another hash"),
        (file([]) + section(b"\x01\x55\x13\x40" + bytes(64), b"sha512"), "another hash"),
        (file([]) + section(b"\x01\x55\x12\x20", b"short"), "shorter than its CID"),
        (file([]) + section(b"\x07", b""), "no CID"),
    ],
)
def test_what_is_wrong_is_named(data: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        read(data)


def test_the_largest_block_is_read() -> None:
    block = noise(MAX_BLOCK)
    assert read(file([(cid(0x55, block), block)])) == ((ROOT,), [(cid(0x55, block), block)])


def test_no_more_than_a_block_is_held() -> None:
    content = noise(3_000_000)
    tree = dag(content)
    taken = 0

    def blocks() -> list[car.Block]:
        return list(tree.held.items())

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal taken
            assert size is not None and size <= 128 + MAX_BLOCK
            taken += size
            return super().read(size)

    _, found = car.read(Counted(b"".join(car.write(tree.root, blocks()))))
    next(found)
    assert taken < 2_000
    for _ in range(3):
        next(found)
    assert taken < 1_000_000
