"""CAR files: the blocks of a DAG in one stream; hands snapshots to IPFS nodes and files, and reads them back.

Format: CARv1, https://ipld.io/specs/transport/car/carv1/. A file in the CARv2 wrapping is
read by the CARv1 inside it; its index is ignored. Everything here streams: no more than one block is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from learnae import dagcbor
from learnae.cid import CID_BYTES, DAG_CBOR, DAG_PB, MAX_BLOCK, RAW, is_cid, names
from learnae.dagcbor import Link
from learnae.errors import WireError

MAX_HEADER: Final = 4096
"""Most bytes of a header: enough for 90 roots."""

MAX_PADDING: Final = 1024 * 1024
"""Most bytes between the header of a CARv2 file and the CARv1 inside it."""

_SHA256: Final = b"\x12\x20"
_MAX_VARINT: Final = 9  # bytes: the unsigned varints of multiformats have at most 63 bits
_MAX_CID: Final = 128
_V2_HEADER: Final = 40

Block = tuple[bytes, bytes]
"""A block's binary CIDv1 and its bytes."""


class Readable(Protocol):
    """A binary file, or anything that can be read like one."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""
        ...


def write(root: bytes, blocks: Iterable[Block]) -> Iterator[bytes]:
    """The pieces of a CARv1 file with one root; its blocks are neither checked nor reordered.

    Put the root first and each node before what it links to: readers that walk the DAG as it arrives count on it.
    """
    header = dagcbor.encode({"roots": [Link(root)], "version": 1})
    yield _varint(len(header)) + header
    for cid, block in blocks:
        yield _varint(len(cid) + len(block)) + cid
        yield block


def read(stream: Readable) -> tuple[tuple[bytes, ...], Iterator[Block]]:
    """The roots that a CAR file names, and its blocks, each verified against its CID, as they are read.

    Whether the blocks make up the whole DAG below the roots is for the caller to see: a file may end after any block.

    Raises:
        WireError: here or while iterating: the file is damaged, cut off within a block, over a bound, or uses hashes
            or codecs other than SHA-256 and raw, dag-pb or dag-cbor. The message names the offset.
    """
    source = _Source(stream)
    version, roots = _header(source)
    if version == 2:
        source.enter_v1()
        version, roots = _header(source)
    if version != 1:
        raise WireError(f"this CAR file has version {version}: only versions 1 and 2 can be read")
    return roots, _blocks(source)


def _blocks(source: _Source) -> Iterator[Block]:
    while (length := source.section()) is not None:
        start = source.offset
        if length > _MAX_CID + MAX_BLOCK:
            raise WireError(
                f"a section of {length} bytes at byte {start} of the CAR file: blocks have at most {MAX_BLOCK}"
            )
        data = source.exactly(length, "a block")
        try:
            cid = _cid(data)
        except WireError as error:
            raise WireError(f"the block at byte {start} of the CAR file {error}") from None
        block = data[CID_BYTES:]
        if len(block) > MAX_BLOCK:
            raise WireError(
                f"the block at byte {start} of the CAR file has {len(block)} bytes, at most {MAX_BLOCK} are allowed"
            )
        if not names(cid, block):
            raise WireError(f"the block at byte {start} of the CAR file does not have the hash that its CID names")
        yield cid, block


def _header(source: _Source) -> tuple[int, tuple[bytes, ...]]:
    """Version and roots."""
    length = source.section()
    start = source.offset
    if length is None:
        raise WireError("this is not a CAR file: it is empty")
    if length > MAX_HEADER:
        raise WireError(
            f"this is not a CAR file: its header would have {length} bytes, at most {MAX_HEADER} are allowed"
        )
    data = source.exactly(length, "the header")
    try:
        header = dagcbor.decode(data, MAX_HEADER)
    except WireError as error:
        raise WireError(f"this is not a CAR file that learnae can read: the header at byte {start}: {error}") from error
    if not isinstance(header, dict) or type(header.get("version")) is not int:
        raise WireError(f"this is not a CAR file: the header at byte {start} names no version")
    if header["version"] != 1:
        return header["version"], ()
    roots = header.get("roots")
    if not isinstance(roots, list) or set(header) != {"roots", "version"}:
        raise WireError(f"this is not a CAR file: the header at byte {start} has no list of roots")
    if not all(isinstance(root, Link) for root in roots):
        raise WireError(f"a root in the header at byte {start} of the CAR file is not a CID")
    return 1, tuple(root.cid for root in roots)


def _cid(data: bytes) -> bytes:
    """The CID with which `data` begins.

    Raises:
        WireError: it is none that learnae can check.
    """
    cid = data[:CID_BYTES]
    if is_cid(cid):
        return cid
    if cid.startswith(_SHA256):
        raise WireError("has a CIDv0: add the data with CIDv1 (`ipfs add --cid-version=1`)")
    if cid[:1] != b"\x01":
        raise WireError("has no CID")
    if cid[1:2] and cid[1] not in (RAW, DAG_PB, DAG_CBOR):
        raise WireError(f"has a CID of codec {cid[1]:#04x}: only raw, dag-pb and dag-cbor can be read")
    if len(cid) >= 4 and cid[2:4] != _SHA256:
        raise WireError("has a CID under another hash than SHA-256, which cannot be checked")
    raise WireError("is shorter than its CID")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


class _Source:
    """A stream with its offset; inside a CARv2 file it ends with the CARv1."""

    def __init__(self, stream: Readable) -> None:
        self.offset = 0
        self._stream = stream
        self._end: int | None = None

    def exactly(self, size: int, what: str) -> bytes:
        """That many bytes."""
        start = self.offset
        parts: list[bytes] = []
        while size:
            part = self._some(size)
            if not part:
                raise WireError(f"the CAR file is cut off at byte {self.offset}, within {what} that begins at {start}")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def section(self) -> int | None:
        """The length that comes next; None at the end of the file."""
        number = 0
        start = self.offset
        for n in range(_MAX_VARINT):
            byte = self._some(1)
            if not byte:
                if n == 0:
                    return None
                break
            number |= (byte[0] & 127) << (7 * n)
            if byte[0] < 128:
                if number == 0:
                    raise WireError(f"an empty section at byte {start} of the CAR file")
                if n and not byte[0]:
                    raise WireError(f"the length at byte {start} of the CAR file is not written the short way")
                return number
        raise WireError(f"the length at byte {start} of the CAR file is cut off or too large")

    def enter_v1(self) -> None:
        """Go on, after the pragma of a CARv2 file, at the CARv1 inside it."""
        header = self.exactly(_V2_HEADER, "the CARv2 header")
        begin, size = int.from_bytes(header[16:24], "little"), int.from_bytes(header[24:32], "little")
        if not 0 <= begin - self.offset <= MAX_PADDING:
            raise WireError(f"the CARv2 header says that its data begin at byte {begin}, which cannot be")
        self.exactly(begin - self.offset, "the padding of CARv2")
        self._end = begin + size

    def _some(self, size: int) -> bytes:
        if self._end is not None:
            size = min(size, self._end - self.offset)
        part = self._stream.read(size) if size else b""
        self.offset += len(part)
        return part
