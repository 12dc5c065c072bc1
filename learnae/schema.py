"""Checks for single fields of decoded messages; `learnae.wire` and `learnae.genesis` compose their schemas of them.

Each function makes a check: it takes a decoded value and returns it, with its proper type, or raises `WireError`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from learnae.cid import is_cid, is_raw_cid
from learnae.dagcbor import Link
from learnae.errors import WireError

T = TypeVar("T")
Check = Callable[[Any], T]

MAX_INT = 2**53


def integer(low: int = 0, high: int = MAX_INT) -> Check[int]:
    """A whole number from `low` to `high`, both included."""

    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise WireError(f"expected a whole number from {low} to {high}, got {_show(value)}")
        return value

    return check


def number(low: float, high: float) -> Check[float]:
    """A finite float from `low` to `high`, both included."""

    def check(value: Any) -> float:
        if type(value) is not float or not math.isfinite(value) or not low <= value <= high:
            raise WireError(f"expected a finite number from {low} to {high}, got {_show(value)}")
        return value

    return check


def octets(low: int, high: int | None = None) -> Check[bytes]:
    """A byte string of `low` to `high` bytes; of exactly `low` without `high`."""
    most = low if high is None else high

    def check(value: Any) -> bytes:
        if type(value) is not bytes or not low <= len(value) <= most:
            raise WireError(f"expected {low} to {most} bytes, got {_show(value)}")
        return value

    return check


def text(high: int) -> Check[str]:
    """A printable string of at most `high` characters: it may end on a user's terminal."""

    def check(value: Any) -> str:
        if type(value) is not str or len(value) > high or not value.isprintable():
            raise WireError(f"expected at most {high} printable characters, got {_show(value)}")
        return value

    return check


def boolean(value: Any) -> bool:
    """True or False."""
    if type(value) is not bool:
        raise WireError(f"expected true or false, got {_show(value)}")
    return value


def cid(value: Any) -> bytes:
    """A CIDv1 under SHA-256, of a raw, dag-pb or dag-cbor block."""
    if type(value) is not bytes or not is_cid(value):
        raise WireError(f"expected the CID of a block, got {_show(value)}")
    return value


def raw_cid(value: Any) -> bytes:
    """A CIDv1 of a raw block under SHA-256."""
    if type(value) is not bytes or not is_raw_cid(value):
        raise WireError(f"expected the CID of a raw block, got {_show(value)}")
    return value


def link(value: Any) -> bytes:
    """A link of DAG-CBOR to a block; its CID."""
    if type(value) is not Link:
        raise WireError(f"expected a link, got {_show(value)}")
    return value.cid


def optional(check: Check[T]) -> Check[T | None]:
    """None, or what `check` accepts."""
    return lambda value: None if value is None else check(value)


def sequence(check: Check[T], high: int) -> Check[tuple[T, ...]]:
    """A list of at most `high` items, each of which `check` accepts."""

    def check_all(value: Any) -> tuple[T, ...]:
        if type(value) is not list or len(value) > high:
            raise WireError(f"expected a list of at most {high} items, got {_show(value)}")
        return tuple(check(item) for item in value)

    return check_all


def record(value: Any, *checks: Check[Any]) -> tuple[Any, ...]:
    """A list with exactly one item for each check, in this order."""
    if type(value) is not list or len(value) != len(checks):
        raise WireError(f"expected a list of {len(checks)} fields, got {_show(value)}")
    return tuple(check(item) for check, item in zip(checks, value, strict=True))


def _show(value: object) -> str:
    kind = type(value).__name__
    if isinstance(value, (bytes, str, list, dict)):
        return f"{kind} of length {len(value)}"
    return f"{kind} {str(value)[:40]}"
