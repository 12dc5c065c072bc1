"""Content identifiers: CIDv1 of a raw block under SHA-256; names the parts of updates on the wire and in the store."""

from __future__ import annotations

import hashlib

_PREFIX = bytes([0x01, 0x55, 0x12, 0x20])
CID_BYTES = len(_PREFIX) + 32


def raw_cid(block: bytes) -> bytes:
    """The 36 bytes of the CIDv1 (raw codec, SHA-256) that names `block`."""
    return _PREFIX + hashlib.sha256(block).digest()


def is_raw_cid(cid: bytes) -> bool:
    """Whether `cid` has the one form that learnae uses for blocks."""
    return len(cid) == CID_BYTES and cid.startswith(_PREFIX)
