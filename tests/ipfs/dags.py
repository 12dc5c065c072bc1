"""DAGs as `ipfs add --cid-version=1 --raw-leaves --chunker=size-262144` builds them: a reference, in few lines."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import NamedTuple

LEAF = 256 * 1024
WIDTH = 174


class Dag(NamedTuple):
    """A DAG in memory; a `BlockSupply` of its own."""

    root: bytes
    held: dict[bytes, bytes]
    """From the root downwards."""

    def blocks(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        assert root == self.root
        yield from self.held.items()


class _Node(NamedTuple):
    cid: bytes
    weight: int
    size: int


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def cid(codec: int, block: bytes) -> bytes:
    return bytes([1, codec, 0x12, 0x20]) + hashlib.sha256(block).digest()


def dag(content: bytes) -> Dag:
    """The DAG of a file with this content."""
    held: dict[bytes, bytes] = {}

    def keep(codec: int, block: bytes, below: int, size: int) -> _Node:
        name = cid(codec, block)
        held[name] = block
        return _Node(name, len(block) + below, size)

    level = []
    for start in range(0, max(len(content), 1), LEAF):
        leaf = content[start : start + LEAF]
        level.append(keep(0x55, leaf, 0, len(leaf)))
    while len(level) > 1:
        level = [
            keep(0x70, _block(nodes), sum(node.weight for node in nodes), sum(node.size for node in nodes))
            for nodes in (level[n : n + WIDTH] for n in range(0, len(level), WIDTH))
        ]
    return Dag(level[0].cid, dict(reversed(held.items())))


def _block(nodes: list[_Node]) -> bytes:
    links = b"".join(_field(0x12, _field(0x0A, node.cid) + b"\x12\x00\x18" + varint(node.weight)) for node in nodes)
    sizes = b"".join(b"\x20" + varint(node.size) for node in nodes)
    return links + _field(0x0A, b"\x08\x02\x18" + varint(sum(node.size for node in nodes)) + sizes)


def _field(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + varint(len(content)) + content


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])
