"""Files as trees: the CIDs that IPFS gives, read back whole, and whatever is malformed, false or too large refused."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from learnae import unixfs
from learnae.cid import DAG_CBOR, DAG_PB, RAW, make_cid, raw_cid, to_text
from learnae.errors import WireError
from learnae.unixfs import LEAF, MAX_LINKS, Child, MissingBlock


class Shelf(dict[bytes, bytes]):
    """Blocks by CID."""

    def keep(self, codec: int, block: bytes) -> bytes:
        cid = make_cid(codec, block)
        self[cid] = block
        return cid


def leaves_of(size: int, leaf: int = unixfs.LEAF) -> Iterator[bytes]:
    """A file of pseudo-random bytes that anybody can make again."""
    rng = random.Random(size)
    for at in range(0, size, leaf):
        yield rng.randbytes(min(leaf, size - at))


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of three links at most, so that small files have many levels."""
    monkeypatch.setattr(unixfs, "MAX_LINKS", 3)


# --- building


def zeros(size: int) -> Iterator[bytes]:
    """The file that the CIDs below were made of, by ipfs-unixfs-importer with its settings for raw leaves."""
    for at in range(0, size, unixfs.LEAF):
        yield bytes(min(unixfs.LEAF, size - at))


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        (1, "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu"),
        (262_144, "bafkreiekhhjkxu4ztk3tyng3er3ijhg56mb44oe3gwbgquhzu4afrg2ksa"),
        (262_145, "bafybeigllfqgfpqydppr6cmv56g7ax4wyhruzswvcefv6j5kj77nzttfki"),
        (1_000_000, "bafybeidide6lpcdutn3we5vvypssfhlq2n265w6dygwj37fyeklhlmfi34"),
        (174 * 262_144, "bafybeibxsa3ioclowpaq7b6gxl65gzqneopfr3fnhedak6sqr4bjz5lnyq"),
        (174 * 262_144 + 1, "bafybeihqwzd3o6q6v3pmwhzjy22vokhr767burokmqemg63hptx2nqd7ym"),
        (100_000_000, "bafybeib35z4lxciae7pp5faehlsh23d2tl5cl2fzdyq6zkhtqbtk3gndsm"),
    ],
)
def test_js_ipfs_gives_the_same_cid(size: int, text: str) -> None:
    root = unixfs.build(zeros(size))
    assert root.size == size
    assert to_text(root.cid) == text


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 9, 10, 27, 28, 100])
def test_a_file_is_read_back(count: int, narrow: None) -> None:
    shelf = Shelf()
    leaves = list(leaves_of(10 * count - min(count, 1) * 3, 10))
    root = unixfs.build(leaves, shelf.keep)
    assert list(unixfs.read(root.cid, shelf.get)) == (leaves or [b""])
    assert root == unixfs.assemble([(raw_cid(leaf), len(leaf)) for leaf in leaves])
    assert root.size == unixfs.size_of(root.cid, shelf[root.cid]) == sum(map(len, leaves))
    assert root.tsize == sum(map(len, shelf.values()))
    steps = list(unixfs.walk(root.cid, shelf.get))
    assert [step.cid for step in steps].count(root.cid) == 1
    assert {step.cid for step in steps} == set(shelf) and len(steps) == len(shelf)
    assert [step.cid for step in steps if step.cid in map(raw_cid, leaves)] == [raw_cid(leaf) for leaf in leaves]
    assert not any(step.missing for step in steps)


def test_no_more_is_held_than_a_leaf_and_some_links() -> None:
    """Leaves are made when they are asked for, and each is put before the next is made."""
    kept: list[bytes] = []

    def leaves() -> Iterator[bytes]:
        for number in range(500):
            assert len(kept) == number + number // unixfs.MAX_LINKS
            yield number.to_bytes(4)

    def keep(codec: int, block: bytes) -> bytes:
        kept.append(block)
        return make_cid(codec, block)

    unixfs.build(leaves(), keep)
    assert len(kept) == 500 + 3 + 1


def test_equal_leaves_are_walked_once_and_read_each_time(narrow: None) -> None:
    shelf = Shelf()
    leaves = [b"same"] * 20 + [b"end"]
    root = unixfs.build(leaves, shelf.keep)
    assert list(unixfs.read(root.cid, shelf.get)) == leaves
    assert len(list(unixfs.walk(root.cid, shelf.get))) == len(shelf)


# --- incomplete


def test_a_walk_goes_on_beside_a_missing_node(narrow: None) -> None:
    shelf = Shelf()
    root = unixfs.build(leaves_of(90, 10), shelf.keep)
    lost = unixfs.parse_node(shelf[root.cid])[1].cid
    below = {child.cid for child in unixfs.parse_node(shelf.pop(lost))}
    steps = {step.cid: step.missing for step in unixfs.walk(root.cid, shelf.get)}
    assert steps == {cid: cid == lost for cid in {*shelf, lost} - below}
    shelf.clear()
    assert list(unixfs.walk(root.cid, shelf.get)) == [(root.cid, None, True)]
    with pytest.raises(MissingBlock) as caught:
        list(unixfs.read(root.cid, shelf.get))
    assert caught.value.cid == root.cid


def test_structured_data_is_a_block_without_children() -> None:
    cid = make_cid(DAG_CBOR, b"\xa0")
    assert list(unixfs.walk(cid, Shelf().get)) == [(cid, None, False)]


# --- strangers' nodes


def children(count: int) -> list[Child]:
    return [Child(raw_cid(number.to_bytes(2)), 300 + number, 300 + number) for number in range(count)]


def node(parts: list[Child]) -> bytes:
    return unixfs._encode(parts)


def test_a_node_is_parsed() -> None:
    for count in (1, 2, unixfs.MAX_LINKS):
        assert unixfs.parse_node(node(children(count))) == tuple(children(count))
    long = Child(make_cid(DAG_PB, b""), 2**55, 2**55 - 1)
    assert len(node([long] * unixfs.MAX_LINKS)) <= unixfs.MAX_NODE
    assert unixfs.parse_node(node([long] * unixfs.MAX_LINKS)) == (long,) * unixfs.MAX_LINKS


CID = raw_cid(b"")
WRONG = {
    "empty": b"",
    "too long": bytes(unixfs.MAX_NODE + 1),
    "no links": node([]),
    "too many links": node(children(unixfs.MAX_LINKS + 1)),
    "a leaf without bytes": node([Child(CID, 0, 0)]),
    "a leaf with more blocks than bytes": node([Child(CID, 5, 4)]),
    "a leaf that nobody could send": node([Child(CID, 2**30, 2**30)]),
    "a node without bytes": node([Child(make_cid(DAG_PB, b""), 60, 0)]),
    "a node smaller than its file": node([Child(make_cid(DAG_PB, b""), 60, 60)]),
    "mixed": node([Child(CID, 9, 9), Child(make_cid(DAG_PB, b""), 90, 9)]),
    "structured data": node([Child(make_cid(DAG_CBOR, b""), 9, 9)]),
    "another hash": node([Child(CID[:2] + b"\x1b\x20" + CID[4:], 9, 9)]),
    "version 0": node([Child(CID[2:], 9, 9)]),
    "a name": node(children(1)).replace(b"\x12\x00\x18", b"\x12\x01a", 1),
    "a directory": node(children(1)).replace(b"\x08\x02\x18", b"\x08\x01\x18", 1),
    "something behind": node(children(1)) + b"\0",
    "cut off": node(children(2))[:-1],
    "data first": node(children(1))[-10:] + node(children(1))[:-10],
    "a number in more bytes than it needs": node([Child(CID, 5, 5)]).replace(b"\x20\x05", b"\x20\x85\x00"),
    "a number without end": b"\x12" + b"\xff" * 20,
    "a wrong sum": node(children(2)).replace(b"\x18\xd9\x04\x20", b"\x18\xda\x04\x20"),
}


@pytest.mark.parametrize("block", WRONG.values(), ids=WRONG)
def test_a_wrong_node_is_refused(block: bytes) -> None:
    with pytest.raises(WireError):
        unixfs.parse_node(block)


@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        unixfs.parse_node(data)


@given(st.integers(1, 4), st.integers(0), st.integers(0, 255))
@example(1, 0, 0)
def test_a_changed_node_is_refused_or_says_just_that(count: int, at: int, value: int) -> None:
    block = bytearray(node(children(count)))
    block[at % len(block)] = value
    try:
        parsed = unixfs.parse_node(bytes(block))
    except WireError:
        return
    assert node(list(parsed)) == block


def test_nodes_must_add_up() -> None:
    parts = children(3)
    block = node(parts)
    size = sum(child.size for child in parts)
    whole = Child(make_cid(DAG_PB, block), len(block) + size, size)
    assert unixfs.children_of(whole, block) == tuple(parts)
    for lie in (whole._replace(size=size + 1), whole._replace(tsize=whole.tsize - 1)):
        with pytest.raises(WireError, match="promised"):
            unixfs.children_of(lie, block)


@pytest.mark.parametrize("change", [1, -1])
def test_a_lie_about_a_size_is_found(change: int) -> None:
    shelf = Shelf()
    for number in range(2):
        shelf.keep(RAW, bytes([number]) * 9)
    first, second = (Child(cid, 9, 9) for cid in shelf)
    lying = Child(second.cid, 9 + change, 9 + change)
    low = unixfs.assemble([(child.cid, child.size) for child in (first, lying)], shelf.keep)
    with pytest.raises(WireError, match="leaf of 9 bytes"):
        list(unixfs.read(low.cid, shelf.get))
    high = node([low._replace(tsize=low.tsize + change), low])
    shelf.keep(DAG_PB, high)
    for look in (unixfs.walk, unixfs.read):
        with pytest.raises(WireError, match="promise"):
            list(look(make_cid(DAG_PB, high), shelf.get))


def bomb(shelf: Shelf, levels: int) -> bytes:
    """A file of 174**levels bytes in a few blocks."""
    child = Child(shelf.keep(RAW, b"x"), 1, 1)
    for _ in range(levels):
        block = node([child] * unixfs.MAX_LINKS)
        tsize = len(block) + unixfs.MAX_LINKS * child.tsize
        child = Child(shelf.keep(DAG_PB, block), tsize, unixfs.MAX_LINKS * child.size)
    return child.cid


def test_a_bomb_does_not_go_off() -> None:
    shelf = Shelf()
    root = bomb(shelf, 4)
    assert len(list(unixfs.walk(root, shelf.get))) == len(shelf) == 5
    for look in (unixfs.walk, unixfs.read):
        with pytest.raises(WireError, match="at most 1000 are"):
            list(look(root, shelf.get, max_size=1000))
    with pytest.raises(WireError, match="more than 1000 blocks"):
        list(unixfs.read(root, shelf.get, max_blocks=1000))
    with pytest.raises(WireError, match="more than 4 blocks"):
        list(unixfs.walk(root, shelf.get, max_blocks=4))


def test_a_tower_is_not_climbed() -> None:
    shelf = Shelf()
    child = Child(shelf.keep(RAW, b"x"), 1, 1)
    for _ in range(unixfs.MAX_DEPTH):
        block = node([child])
        child = Child(shelf.keep(DAG_PB, block), len(block) + child.tsize, 1)
    for look in (unixfs.walk, unixfs.read):
        assert len(list(look(child.cid, shelf.get))) >= 1
    block = node([child])
    root = shelf.keep(DAG_PB, block)
    for look in (unixfs.walk, unixfs.read):
        with pytest.raises(WireError, match="levels"):
            list(look(root, shelf.get))


def test_a_single_leaf_has_a_bound_too() -> None:
    shelf = Shelf()
    root = shelf.keep(RAW, b"12345")
    assert list(unixfs.read(root, shelf.get, max_size=5)) == [b"12345"]
    with pytest.raises(WireError):
        list(unixfs.read(root, shelf.get, max_size=4))


@pytest.mark.parametrize("leaves", [1, 2, MAX_LINKS, MAX_LINKS + 1, 3 * MAX_LINKS, MAX_LINKS**2 + 1])
@pytest.mark.parametrize("less", [0, 1, LEAF - 1])
def test_the_shape_of_a_tree_follows_from_its_size(leaves: int, less: int) -> None:
    sizes = [LEAF] * (leaves - 1) + [LEAF - less]
    nodes: dict[bytes, bytes] = {}

    def put(codec: int, block: bytes) -> bytes:
        nodes[make_cid(codec, block)] = block
        return make_cid(codec, block)

    root = unixfs.assemble(((raw_cid(number.to_bytes(4)), size) for number, size in enumerate(sizes)), put)
    ahead = [(root, unixfs.height_of(root.size))]
    assert root.size == sum(sizes)
    while ahead:
        child, height = ahead.pop()
        if child.cid not in nodes:
            assert height == 0
            continue
        parts = unixfs.children_of(child, nodes[child.cid])
        assert [part.size for part in parts] == unixfs.parts_of(child.size, height)
        ahead += [(part, height - 1) for part in parts]
