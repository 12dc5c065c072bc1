"""Content identifiers: CIDv1 under SHA-256, binary and as text; name every block on the wire and in the stores."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
from typing import Final

from learnae.errors import WireError

RAW: Final = 0x55
"""Codec of a block of plain bytes: a leaf of a file, a part of an update."""
DAG_PB: Final = 0x70
"""Codec of an inner node of a file; see `learnae.unixfs`."""
DAG_CBOR: Final = 0x71
"""Codec of structured data with links; see `learnae.dagcbor`."""

MAX_BLOCK: Final = 2 * 1024 * 1024
"""Most bytes of a block: what Bitswap carries."""

_CODECS: Final = (RAW, DAG_PB, DAG_CBOR)
_HASH: Final = bytes([0x12, 0x20])
_PREFIX: Final = bytes([0x01, RAW]) + _HASH
_PREFIXES: Final = frozenset(bytes([0x01, codec]) + _HASH for codec in _CODECS)
CID_BYTES = len(_PREFIX) + 32


def raw_cid(block: bytes) -> bytes:
    """The 36 bytes of the CIDv1 (raw codec, SHA-256) that names `block`."""
    return _PREFIX + hashlib.sha256(block).digest()


def is_raw_cid(cid: bytes) -> bool:
    """Whether `cid` has the one form that learnae uses for blocks of plain bytes."""
    return len(cid) == CID_BYTES and cid.startswith(_PREFIX)


def make_cid(codec: int, block: bytes) -> bytes:
    """The 36 bytes of the CIDv1 (SHA-256) that names `block` under one of the three codecs."""
    return cid_of(codec, hashlib.sha256(block).digest())


def cid_of(codec: int, digest: bytes) -> bytes:
    """The CID of the block with this SHA-256 digest.

    Raises:
        ValueError: not one of the three codecs, or not 32 bytes.
    """
    if codec not in _CODECS or len(digest) != 32:
        raise ValueError(f"no CID of learnae has codec {codec:#x} and a digest of {len(digest)} bytes")
    return bytes([0x01, codec]) + _HASH + digest


def names(cid: bytes, block: bytes) -> bool:
    """Whether `cid` is a CID of this block."""
    return is_cid(cid) and cid[4:] == hashlib.sha256(block).digest()


def is_cid(cid: bytes) -> bool:
    """Whether `cid` is a binary CIDv1 of 36 bytes: codec raw, dag-pb or dag-cbor, SHA-256."""
    return len(cid) == CID_BYTES and cid[:4] in _PREFIXES


def codec_of(cid: bytes) -> int:
    """`RAW`, `DAG_PB` or `DAG_CBOR`.

    Raises:
        WireError: it is no CID.
    """
    return _checked(cid)[1]


def digest_of(cid: bytes) -> bytes:
    """The 32 bytes of the block's SHA-256; blocks are stored under it, whatever the codec.

    Raises:
        WireError: it is no CID.
    """
    return _checked(cid)[4:]


def to_text(cid: bytes) -> str:
    """The CID as people and other programs write it: "bafy...", "bafk...", in lower-case base32.

    Raises:
        WireError: it is no CID.
    """
    return "b" + base64.b32encode(_checked(cid)).decode().lower().rstrip("=")


def from_text(text: str) -> bytes:
    """The binary CID in its one text form.

    Raises:
        WireError: it is none; the message says what to give instead.
    """
    if len(text) == 46 and text.startswith("Qm"):
        raise WireError(
            f"{text} is a CID of version 0: snapshots have CIDs of version 1, which begin with 'baf'. Give that one; "
            "`ipfs add --cid-version=1` makes it",
            code="bad-cid",
        )
    cid = b""
    if text.startswith("b") and text.islower():
        with contextlib.suppress(binascii.Error, ValueError):
            cid = base64.b32decode(text[1:].upper() + "=" * (-len(text[1:]) % 8))
    if not is_cid(cid) or to_text(cid) != text:
        raise WireError(
            f"{text[:80]!r} is not the CID of a block: give one of version 1 with SHA-256 in lower-case base32, "
            "59 characters that begin with 'baf'",
            code="bad-cid",
        )
    return cid


def _checked(cid: bytes) -> bytes:
    if not is_cid(cid):
        raise WireError(f"expected a CIDv1 with SHA-256 of a raw, dag-pb or dag-cbor block, got {len(cid)} other bytes")
    return cid
