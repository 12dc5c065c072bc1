"""Peer names: an Ed25519 public key as a libp2p peer id, and back; used wherever a node is named to people."""

from __future__ import annotations

from functools import lru_cache

import base58

from learnae.errors import WireError

# An Ed25519 public key as libp2p's protobuf, in an identity multihash.
_PREFIX = bytes.fromhex("002408011220")
KEY_BYTES = 32


def peer_id(public_key: bytes) -> str:
    """The libp2p peer id ("12D3Koo...") of a 32-byte Ed25519 public key.

    >>> peer_id(bytes(32))
    '12D3KooW9pNAk8aiBuGVQtWRdbkLmo5qVL3e2h5UxbN2Nz9ttwiw'
    """
    if len(public_key) != KEY_BYTES:
        raise ValueError(f"an Ed25519 public key has {KEY_BYTES} bytes, not {len(public_key)}")
    return base58.b58encode(_PREFIX + public_key).decode()


def public_key(peer: str) -> bytes:
    """The 32-byte Ed25519 public key inside a peer id.

    Raises:
        WireError: not the id of an Ed25519 key.
    """
    try:
        raw = base58.b58decode(peer)
    except ValueError as error:
        raise WireError(f"not a peer id: {peer[:80]!r}", code="bad-peer-id") from error
    if len(raw) != len(_PREFIX) + KEY_BYTES or not raw.startswith(_PREFIX):
        raise WireError(f"not the peer id of an Ed25519 key: {peer[:80]!r}", code="bad-peer-id")
    return raw[len(_PREFIX) :]


@lru_cache(maxsize=4096)
def short(public_key: bytes) -> str:
    """The last characters of the peer id: enough to tell peers apart on a screen."""
    return peer_id(public_key)[-8:]
