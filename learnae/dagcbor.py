"""Strict DAG-CBOR: structured data with links to other blocks, one encoding for each value; used by cuts' manifests.

The codec is specified at https://ipld.io/specs/codecs/dag-cbor/spec/: CBOR of plain types in its shortest form, keys of
maps sorted by length and then by bytes, floats always in 64 bits and finite, and no tag but 42, which marks a CID.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import cbor2

from learnae.cid import is_cid
from learnae.errors import WireError

MAX_DEPTH: Final = 64
"""Most lists and maps inside each other."""

_LINK: Final = 42
_INTEGERS: Final = range(-(2**64), 2**64)
# cbor2 gives meaning to these tags; in DAG-CBOR they have none.
_TAGS: Final = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799)


@dataclass(frozen=True, slots=True)
class Link:
    """A link to another block."""

    cid: bytes
    """Binary CIDv1; see `learnae.cid`."""


def encode(value: object) -> bytes:
    """The one encoding of a value of None, bools, ints, floats, strings, bytes, links, lists (or tuples) and maps.

    Raises:
        WireError: DAG-CBOR cannot hold the value: another type, an int beyond 64 bits, a float that is not finite, a
            key that is no string, a link that is no CID of learnae, too deep.
    """
    try:
        return cbor2.dumps(_plain(value, MAX_DEPTH))
    except UnicodeEncodeError as error:
        raise WireError(f"a string that is not Unicode: {error}") from error


def decode(data: bytes, limit: int) -> Any:
    """The value in `data`, if `encode` gives the same bytes for it; lists are lists, links are `Link`.

    Args:
        data: the whole block; trailing bytes are refused.
        limit: most bytes to look at.

    Raises:
        WireError: too long, malformed, not in the one encoding, too deep, or a link that learnae cannot follow.
    """
    if len(data) > limit:
        raise WireError(f"{len(data)} bytes, at most {limit} are allowed")
    try:
        value = cbor2.loads(
            data,
            max_depth=MAX_DEPTH + 1,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            semantic_decoders=_REFUSE_TAGS,
            tag_hook=_take_link,
        )
        canonical = encode(value)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise WireError(f"not valid DAG-CBOR: {error.__cause__ or error}") from error
    if canonical != data:
        raise WireError("not the one encoding of DAG-CBOR, or bytes follow the block")
    return value


def _refuse(*_: object) -> Any:
    raise WireError("DAG-CBOR has no tag but that of links")


_REFUSE_TAGS: Final[Mapping[int, Callable[..., Any]]] = dict.fromkeys(_TAGS, _refuse)


def _take_link(tag: Any, *_: object) -> Link:
    found = tag.value
    # The zero stands for "binary", in a notation where text would have another letter there.
    if tag.tag != _LINK or type(found) is not bytes or found[:1] != b"\0" or not is_cid(found[1:]):
        raise WireError("a tag that is not a link to a block under SHA-256")
    return Link(found[1:])


def _plain(value: object, depth: int) -> object:
    """The same for cbor2, which then writes it in the order and lengths that DAG-CBOR wants."""
    if depth < 0:
        raise WireError(f"more than {MAX_DEPTH} lists and maps inside each other")
    match value:
        case None | bool() | str() | bytes():
            return value
        case int() if value in _INTEGERS:
            return value
        case float() if math.isfinite(value):
            return value
        case Link(cid) if is_cid(cid):
            return cbor2.CBORTag(_LINK, b"\0" + cid)
        case list() | tuple():
            return [_plain(item, depth - 1) for item in value]
        case dict() if all(isinstance(key, str) for key in value):
            keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
            return {key: _plain(value[key], depth - 1) for key in keys}
    raise WireError(f"DAG-CBOR has no place for this {type(value).__name__}")
