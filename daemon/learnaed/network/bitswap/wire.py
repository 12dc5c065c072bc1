"""Bitswap messages as bytes: bounded reading, writing without needless copies; used by `link`, `ledger` and `engine`.

https://specs.ipfs.tech/bitswap-protocol/. A generated protobuf class would allocate an object for every field before
anything could be counted: 4 MiB of empty fields become 100 MB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from learnae.errors import WireError

PROTOCOLS: Final = ("/ipfs/bitswap/1.2.0", "/ipfs/bitswap/1.1.0", "/ipfs/bitswap/1.0.0")
"""Newest first. 1.1.0 has no presences, 1.0.0 no prefixes either."""
CID_BYTES: Final = 36
CODECS: Final = frozenset((0x55, 0x70, 0x71))
"""raw, dag-pb, dag-cbor."""
MAX_BLOCK: Final = 2 * 1024 * 1024
"""Largest block served or accepted: what every implementation has to let through."""
MAX_MESSAGE: Final = 4 * 1024 * 1024
"""Largest message accepted from a peer that was asked for blocks: what Kubo and Helia accept."""
MAX_PARTS: Final = 8192
"""Most entries, blocks and presences together in one message."""
_HASH: Final = b"\x12\x20"


class Entry(NamedTuple):
    """One line of a wantlist: give me this block, tell me whether you have it, or forget that I asked."""

    cid: bytes
    priority: int = 1
    cancel: bool = False
    have: bool = False
    dont_have: bool = False
    """Say so if you lack it."""


@dataclass(slots=True)
class Message:
    """One message. Blocks are `(prefix, data)`: the prefix is the CID without its hash, empty in 1.0.0; the data may be
    a view into the message."""

    wants: list[Entry] = field(default_factory=list)
    full: bool = False
    """`wants` replaces what was wanted before."""
    blocks: list[tuple[bytes, bytes | memoryview]] = field(default_factory=list)
    presences: list[tuple[bytes, bool]] = field(default_factory=list)


def digest_of(cid: bytes) -> bytes | None:
    """The SHA-256 in a CIDv1 of a codec that learnae knows; None for everything else."""
    if len(cid) == CID_BYTES and cid[0] == 1 and cid[1] in CODECS and cid[2:4] == _HASH:
        return cid[4:]
    return None


def hash_block(prefix: bytes, data: bytes | memoryview) -> bytes | None:
    """The SHA-256 of a block that came; None if its prefix names another hash or it is too large."""
    if len(data) > MAX_BLOCK or (prefix and not prefix.endswith(_HASH)):
        return None
    return hashlib.sha256(data).digest()


# --- reading


def parse(raw: bytes | bytearray) -> Message:
    """Read a message; its blocks are views into `raw`. Unknown fields are skipped, as protobuf demands.

    Raises:
        WireError: not protobuf, a field of the wrong type, or more than `MAX_PARTS` parts.
    """
    message = Message()
    parts = 0
    for number, value in _fields(memoryview(raw)):
        if number not in (1, 2, 3, 4):
            continue
        body = _view(value)
        if number == 1:
            parts = _parse_wantlist(body, message, parts)
            continue
        parts += 1
        if parts > MAX_PARTS:
            raise WireError(f"a Bitswap message of more than {MAX_PARTS} parts")
        if number == 2:
            message.blocks.append((b"", body))
        elif number == 3:
            message.blocks.append(_parse_block(body))
        else:
            message.presences.append(_parse_presence(body))
    return message


def lone_block(beginning: memoryview, size: int) -> tuple[bytes, int] | None:
    """The prefix of the one block that a message of this size consists of, and where its data begin and go on to the
    end; None for any other message, and while too little of it is there.

    Most messages are so. Their data need not be copied once more, out of the message.
    """
    try:
        if beginning[0] != 0x1A:
            return None
        length, at = _varint(beginning, 1)
        if at + length != size or bytes(beginning[at : at + 2]) != b"\x0a\x04" or beginning[at + 6] != 0x12:
            return None
        prefix = bytes(beginning[at + 2 : at + 6])
        length, at = _varint(beginning, at + 7)
    except (IndexError, WireError):
        return None
    return (prefix, at) if at + length == size else None


def _parse_wantlist(body: memoryview, message: Message, parts: int) -> int:
    for number, value in _fields(body):
        if number == 1:
            parts += 1
            if parts > MAX_PARTS:
                raise WireError(f"a Bitswap message of more than {MAX_PARTS} parts")
            message.wants.append(_parse_entry(_view(value)))
        elif number == 2:
            message.full = bool(_number(value))
    return parts


def _parse_entry(body: memoryview) -> Entry:
    cid, flags = b"", [0] * 6
    for number, value in _fields(body):
        if number == 1:
            cid = bytes(_view(value))
        elif number < 6:
            flags[number] = _number(value)
    # protobuf writes a negative int32 as a huge uint64
    priority = flags[2] - (1 << 64) if flags[2] >> 63 else flags[2]
    return Entry(cid, priority, bool(flags[3]), flags[4] == 1, bool(flags[5]))


def _parse_block(body: memoryview) -> tuple[bytes, memoryview]:
    prefix, data = b"", memoryview(b"")
    for number, value in _fields(body):
        if number == 1:
            prefix = bytes(_view(value))
        elif number == 2:
            data = _view(value)
    return prefix, data


def _parse_presence(body: memoryview) -> tuple[bytes, bool]:
    cid, lacks = b"", False
    for number, value in _fields(body):
        if number == 1:
            cid = bytes(_view(value))
        elif number == 2:
            lacks = _number(value) == 1
    return cid, not lacks


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    position, end = 0, len(data)
    while position < end:
        key, position = _varint(data, position)
        kind = key & 7
        if kind == 0:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if kind == 2:
            size, position = _varint(data, position)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise WireError(f"a Bitswap message with a field of type {kind}")
        if position + size > end:
            raise WireError("a Bitswap message with a field that is longer than the message")
        yield key >> 3, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    raise WireError("a Bitswap message with a number that is cut off or too long")


def _view(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise WireError("a Bitswap message with a number where bytes belong")
    return value


def _number(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise WireError("a Bitswap message with bytes where a number belongs")
    return value


# --- writing


def varint(value: int) -> bytes:
    """Protobuf's spelling of a number that is not negative."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def framed(parts: list[bytes]) -> list[bytes]:
    """A message as it goes over a stream, to be joined: its length, then its parts."""
    return [varint(sum(map(len, parts))), *parts]


def wantlist(entries: Iterable[Entry], *, full: bool = False) -> bytes:
    """The part of a message that says what is wanted."""
    lines = [_entry(entry) for entry in entries]
    return _tagged(1, b"".join(_tagged(1, line) for line in lines) + (b"\x10\x01" if full else b""))


def _entry(entry: Entry) -> bytes:
    line = _tagged(1, entry.cid) + b"\x10" + varint(entry.priority)
    line += b"\x18\x01" if entry.cancel else b""
    line += b"\x20\x01" if entry.have else b""
    return line + (b"\x28\x01" if entry.dont_have else b"")


def presence(cid: bytes, has: bool) -> bytes:
    """The part of a message that says whether a block is here."""
    return _tagged(4, _tagged(1, cid) + (b"" if has else b"\x10\x01"))


def block_parts(cid: bytes, data: bytes, protocol: str) -> tuple[bytes, bytes]:
    """The part of a message that carries a block, to be joined: what stands before the data, and the data."""
    size = varint(len(data))
    if protocol == PROTOCOLS[-1]:
        return b"\x12" + size, data
    head = _tagged(1, cid[:4]) + b"\x12" + size
    return b"\x1a" + varint(len(head) + len(data)) + head, data


def _tagged(number: int, body: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + varint(len(body)) + body
