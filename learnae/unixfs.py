"""Files as trees of blocks (UnixFS, balanced): built from leaves, read and walked from the root; used by snapshots.

A file is cut into *leaves*, raw blocks of equal size but the last. Their CIDs stand in dag-pb *nodes* of at most 174
links each, the nodes' CIDs in further nodes, up to one root. A file of one leaf is that leaf. So does `ipfs add
--cid-version=1 --raw-leaves --chunker=size-262144`, and the CIDs are the same. Formats:
https://ipld.io/specs/codecs/dag-pb/spec/ and https://specs.ipfs.tech/unixfs/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from learnae.cid import DAG_PB, MAX_BLOCK, RAW, codec_of, is_cid, make_cid
from learnae.errors import WireError

LEAF: Final = 256 * 1024
"""Bytes of each leaf but the last, in files that learnae writes."""
MAX_LINKS: Final = 174
"""Most links of a node."""
MAX_NODE: Final = 16 * 1024
"""Most bytes of a node: one of 174 links with the longest numbers has less."""
MAX_SIZE: Final = 2**40
"""Most bytes of a file that is read, by default."""
MAX_BLOCKS: Final = 2**23
"""Most blocks of a file that is read, by default: 2 TiB in leaves of 256 KiB."""
MAX_DEPTH: Final = 8
"""Most levels of nodes; four hold 2 TiB in leaves of 256 KiB."""

Get = Callable[[bytes], bytes | None]
"""Gives the block with this CID, already checked against it, or None if it is not here."""
Put = Callable[[int, bytes], bytes]
"""Keeps a block under this codec and gives its CID."""


class Child(NamedTuple):
    """One part of a file: what its link in a node says."""

    cid: bytes
    tsize: int
    """Bytes of all its blocks, nodes included, those that occur twice counted twice."""
    size: int
    """Bytes of the file in it."""


class Step(NamedTuple):
    """One block that a walk came by."""

    cid: bytes
    size: int | None
    """Bytes of the file in it, as the link to it says; None for the root."""
    missing: bool
    """Whether it is a node that is not here, so that the walk could not go on below it. Leaves are not looked for."""


class MissingBlock(LookupError):
    """A file cannot be read, because this block is not here."""

    def __init__(self, cid: bytes) -> None:
        super().__init__(cid)
        self.cid = cid


# --- building


def build(leaves: Iterable[bytes], put: Put = make_cid) -> Child:
    """Build a file of these leaves; its root. No more is held than one leaf and 174 links for each level.

    Args:
        leaves: all of `LEAF` bytes but the last, if other programs are to give the same CID; none of them is empty.
        put: keeps a block. Default: it is only named.
    """
    return assemble(((put(RAW, leaf), len(leaf)) for leaf in leaves), put)


def assemble(leaves: Iterable[tuple[bytes, int]], put: Put = make_cid) -> Child:
    """Build the nodes over leaves of which CID and size are known; the root. `put` gets the nodes only.

    A file without leaves is one empty leaf.
    """
    levels: list[list[Child]] = [[]]

    def add(child: Child, height: int) -> None:
        if height == len(levels):
            levels.append([])
        levels[height].append(child)
        if len(levels[height]) == MAX_LINKS:
            close(height)

    def close(height: int) -> None:
        children, levels[height] = levels[height], []
        block = _encode(children)
        tsize = len(block) + sum(child.tsize for child in children)
        add(Child(put(DAG_PB, block), tsize, sum(child.size for child in children)), height + 1)

    for cid, size in leaves:
        add(Child(cid, size, size), 0)
    height = 0
    while height < len(levels) - 1 or len(levels[height]) > 1:
        if levels[height]:
            close(height)
        height += 1
    return levels[height][0] if levels[height] else Child(put(RAW, b""), 0, 0)


def height_of(size: int) -> int:
    """Levels of nodes above the leaves of a file of `size` bytes, as `build` makes them of leaves of `LEAF` bytes."""
    leaves, height = -(-size // LEAF), 0
    while leaves > MAX_LINKS**height:
        height += 1
    return height


def parts_of(size: int, height: int) -> list[int]:
    """Bytes of the file in each child of a node that holds `size` of them, with so many levels of nodes from it down.

    All children are full but the last, so that no file has more blocks than its size needs.
    """
    full = LEAF * MAX_LINKS ** (height - 1)
    whole, rest = divmod(size, full)
    return [full] * whole + ([rest] if rest else [])


# --- reading


def parse_node(block: bytes) -> tuple[Child, ...]:
    """The children of a node.

    Raises:
        WireError: it is not, to the byte, the node that `build` makes of some parts.
    """
    if len(block) > MAX_NODE:
        raise WireError(f"a node of {len(block)} bytes, at most {MAX_NODE} are allowed")
    try:
        children = tuple(_decode(block))
    except (IndexError, ValueError) as error:
        raise WireError("not a node of a file: it is cut off") from error
    if not 1 <= len(children) <= MAX_LINKS:
        raise WireError(f"a node of {len(children)} links; 1 to {MAX_LINKS} are allowed")
    if len({codec_of(child.cid) for child in children}) > 1:
        raise WireError("a node with leaves and nodes side by side")
    for child in children:
        if codec_of(child.cid) == RAW:
            fits = 1 <= child.size <= MAX_BLOCK and child.tsize == child.size
        else:
            fits = 1 <= child.size < child.tsize
        if not fits:
            raise WireError(f"a link to {child.size} bytes of a file in {child.tsize} bytes of blocks")
    if _encode(children) != block:
        raise WireError("not the one encoding of a node")
    return children


def children_of(parent: Child, block: bytes) -> tuple[Child, ...]:
    """The children in the node `block`, if they add up to what the link to it says.

    Raises:
        WireError: they do not, or it is no node.
    """
    children = parse_node(block)
    size, tsize = sum(child.size for child in children), len(block) + sum(child.tsize for child in children)
    if (size, tsize) != (parent.size, parent.tsize):
        raise WireError(f"a node of {size} bytes in {tsize}, where {parent.size} in {parent.tsize} were promised")
    return children


def size_of(cid: bytes, block: bytes) -> int:
    """Bytes of the file whose root has this CID and is `block`.

    Raises:
        WireError: a node that is none.
    """
    return sum(child.size for child in parse_node(block)) if codec_of(cid) == DAG_PB else len(block)


def walk(root: bytes, get: Get, *, max_size: int = MAX_SIZE, max_blocks: int = MAX_BLOCKS) -> Iterator[Step]:
    """All blocks of the file as far as its nodes are here, each once, parents before children, in the file's order.

    A block that is no node has no children here: leaves, and DAG-CBOR blocks whatever they link to.

    Args:
        root: CID of the whole.
        get: asked for nodes only.
        max_size: most bytes of the file.
        max_blocks: most different blocks.

    Raises:
        WireError: a node is none, nodes contradict each other, or a bound is passed. What was given before holds.
    """
    seen: dict[bytes, Child] = {}
    ahead: list[tuple[Child | None, int]] = [(None, 0)]
    while ahead:
        child, depth = ahead.pop()
        cid = root if child is None else child.cid
        if child is not None and cid in seen:
            if seen[cid] != child:
                raise WireError("two links to one block promise different sizes")
            continue
        if child is not None:
            seen[cid] = child
        if len(seen) >= max_blocks:
            raise WireError(f"a file of more than {max_blocks} blocks")
        block = get(cid) if codec_of(cid) == DAG_PB else b""
        yield Step(cid, None if child is None else child.size, block is None)
        if block and codec_of(cid) == DAG_PB:
            ahead += [(below, depth + 1) for below in reversed(_below(child, block, depth, max_size))]


def read(root: bytes, get: Get, *, max_size: int = MAX_SIZE, max_blocks: int = MAX_BLOCKS) -> Iterator[bytes]:
    """The leaves of a file in order.

    Args:
        root: CID of the whole.
        get: gives every block.
        max_size: most bytes of the file.
        max_blocks: most blocks, those that occur twice counted twice.

    Raises:
        MissingBlock: a block is not here.
        WireError: a node is none, a part has not the size that was promised, or a bound is passed.
    """
    visited = 0
    ahead: list[tuple[Child | None, int]] = [(None, 0)]
    while ahead:
        child, depth = ahead.pop()
        cid = root if child is None else child.cid
        visited += 1
        if visited > max_blocks:
            raise WireError(f"a file of more than {max_blocks} blocks")
        block = get(cid)
        if block is None:
            raise MissingBlock(cid)
        if codec_of(cid) == DAG_PB:
            ahead += [(below, depth + 1) for below in reversed(_below(child, block, depth, max_size))]
            continue
        promised = max_size if child is None else child.size
        if len(block) > promised or (child is not None and len(block) < promised):
            raise WireError(f"a leaf of {len(block)} bytes, where {promised} were promised")
        yield block


def _below(parent: Child | None, block: bytes, depth: int, max_size: int) -> tuple[Child, ...]:
    if depth >= MAX_DEPTH:
        raise WireError(f"a file of more than {MAX_DEPTH} levels")
    children = parse_node(block) if parent is None else children_of(parent, block)
    size = sum(child.size for child in children)
    if size > max_size:
        raise WireError(f"a file of {size} bytes; at most {max_size} are allowed")
    return children


# --- protobuf

_FILE: Final = b"\x08\x02"  # of a node's data: the type is "file"
_SIZE, _SIZES = 0x18, 0x20  # of a node's data: bytes in all, bytes in each part
_DATA, _LINK = 0x0A, 0x12  # of a node
_CID, _NAME, _TSIZE = 0x0A, b"\x12\x00", 0x18  # of a link; names are empty


def _encode(children: Iterable[Child]) -> bytes:
    links, sizes, size = bytearray(), bytearray(), 0
    for child in children:
        link = _field(_CID, child.cid) + _NAME + _number(_TSIZE, child.tsize)
        links += _field(_LINK, link)
        sizes += _number(_SIZES, child.size)
        size += child.size
    return bytes(links + _field(_DATA, _FILE + _number(_SIZE, size) + sizes))


def _decode(block: bytes) -> Iterator[Child]:
    """What links and sizes say. Whatever is skipped here shows when the children are encoded again."""
    at = 0
    links: list[tuple[bytes, int]] = []
    while block[at] == _LINK:
        length, begin = _varint(block, at + 1)
        link = block[begin : begin + length]
        at = begin + length
        cid = link[2 : 2 + link[1]]
        if not is_cid(cid) or codec_of(cid) not in (RAW, DAG_PB):
            raise WireError("a node that links to something else than leaves and nodes under CIDv1 and SHA-256")
        links.append((cid, _varint(link, 2 + link[1] + len(_NAME) + 1)[0]))
        if len(links) > MAX_LINKS:
            return
    _, at = _varint(block, at + 1)
    at += len(_FILE)
    _, at = _varint(block, at + 1)
    for cid, tsize in links:
        size, at = _varint(block, at + 1)
        yield Child(cid, tsize, size)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at this place, and the place behind it."""
    value = 0
    for shift in range(0, 63, 7):
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError("a number of more than 63 bits")


def _number(tag: int, value: int) -> bytes:
    encoded = bytearray([tag])
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _field(tag: int, data: bytes) -> bytes:
    return _number(tag, len(data)) + data
