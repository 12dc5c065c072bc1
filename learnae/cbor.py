"""Strict CBOR for bytes from outside: canonical, bounded, plain types only; used by the wire format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cbor2

from learnae.errors import WireError

MAX_DEPTH = 8

# cbor2 gives meaning to these tags (dates, bignums, regular expressions, shared references ...). None of them is
# needed here and some cost far more to decode than to send.
_TAGS = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799)


def _refuse(*_: object) -> Any:
    raise WireError("CBOR tags are not allowed")


_REFUSE_TAGS: Mapping[int, Callable[..., Any]] = dict.fromkeys(_TAGS, _refuse)


def encode(value: object) -> bytes:
    """Canonical CBOR: equal values have equal bytes, on every machine."""
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, limit: int) -> Any:
    """The value in `data`, if it is canonical CBOR of plain types.

    Args:
        data: the whole message; trailing bytes are refused.
        limit: most bytes to look at.

    Raises:
        WireError: too long, malformed, not canonical, too deep, or tagged.
    """
    if len(data) > limit:
        raise WireError(f"{len(data)} bytes, at most {limit} are allowed")
    try:
        value = cbor2.loads(
            data,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            semantic_decoders=_REFUSE_TAGS,
            tag_hook=_refuse,
        )
        canonical = encode(value)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise WireError(f"not valid CBOR: {error}") from error
    if canonical != data:
        raise WireError("not canonical CBOR, or bytes follow the message")
    return value
