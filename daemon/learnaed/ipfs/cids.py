"""CIDs as the RPC API writes them, which need not be base32; used by `IpfsNode`."""

from __future__ import annotations

import base64
import binascii

import base58

_MAX_TEXT = 128


def from_text(text: object) -> bytes | None:
    """The binary CIDv1 that this names in base32, base58 or hexadecimal; None for anything else."""
    if not isinstance(text, str) or not 2 <= len(text) <= _MAX_TEXT:
        return None
    kind, digits = text[0], text[1:]
    try:
        match kind:
            case "b":
                return base64.b32decode(digits.upper() + "=" * (-len(digits) % 8))
            case "z":
                return base58.b58decode(digits)
            case "f":
                return bytes.fromhex(digits)
    except (ValueError, binascii.Error):
        pass
    return None
