"""A file as a UnixFS DAG, built and read by the shortest code that does it; for tests."""

from __future__ import annotations

import hashlib
from base64 import b32encode

from learnaed.network.bitswap import wire

LEAF = 256 * 1024
LINKS = 174


def cid_of(codec: int, block: bytes) -> bytes:
    return bytes((1, codec, 0x12, 0x20)) + hashlib.sha256(block).digest()


def text(cid: bytes) -> str:
    return "b" + b32encode(cid).decode().lower().rstrip("=")


def _field(tag: int, body: bytes) -> bytes:
    return bytes((tag,)) + wire.varint(len(body)) + body


class Blocks:
    """Blocks in memory, by hash: a source of what a test wants served."""

    def __init__(self) -> None:
        self.held: dict[bytes, bytes] = {}
        self.given: list[bytes] = []

    def put(self, block: bytes, codec: int = 0x55) -> bytes:
        cid = cid_of(codec, block)
        self.held[cid[4:]] = block
        return cid

    def put_file(self, data: bytes) -> bytes:
        """As `ipfs add --cid-version=1 --raw-leaves --chunker=size-262144` does; the root's CID."""
        cut = [data[at : at + LEAF] for at in range(0, len(data), LEAF)] or [b""]
        level = [(self.put(leaf), len(leaf), len(leaf)) for leaf in cut]
        while len(level) > 1:
            level = [self._node(level[at : at + LINKS]) for at in range(0, len(level), LINKS)]
        return level[0][0]

    def _node(self, children: list[tuple[bytes, int, int]]) -> tuple[bytes, int, int]:
        size = sum(child[2] for child in children)
        links = b"".join(
            _field(0x12, _field(0x0A, cid) + b"\x12\x00\x18" + wire.varint(total)) for cid, total, _ in children
        )
        file = b"\x08\x02\x18" + wire.varint(size) + b"".join(b"\x20" + wire.varint(child[2]) for child in children)
        block = links + _field(0x0A, file)
        return self.put(block, 0x70), len(block) + sum(child[1] for child in children), size

    async def get(self, cid: bytes) -> bytes | None:
        block = self.held.get(cid[4:])
        if block is not None:
            self.given.append(cid)
        return block

    async def has(self, cid: bytes) -> int | None:
        block = self.held.get(cid[4:])
        return None if block is None else len(block)


def links_in(cid: bytes, block: bytes) -> list[bytes]:
    """The children of a dag-pb node, in order; a CIDv0 is spelled as the CIDv1 that it is."""
    if cid[1] != 0x70:
        return []
    found = []
    for number, value in wire._fields(memoryview(block)):
        if number == 2:
            assert isinstance(value, memoryview)
            [link] = [bytes(part) for n, part in wire._fields(value) if n == 1 and isinstance(part, memoryview)]
            found.append(link if link[0] == 1 else b"\x01\x70" + link)
    return found
