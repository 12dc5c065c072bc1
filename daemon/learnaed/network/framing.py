"""Frames on a libp2p stream: u32 length, SHA-256, bytes; bounded in size and time; used by `exchange`."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from learnae.errors import NetworkError

_HEADER = struct.Struct("!I32s")
CHUNK = 32 * 1024
# Slower than this, header excepted, is treated as no progress: a byte a second could hold a slot for days.
MIN_RATE = 4 * 1024


class Stream(Protocol):
    """The part of a libp2p stream that frames need."""

    async def read(self, n: int | None = None) -> bytes: ...

    async def write(self, data: bytes) -> None: ...


class Stalled(NetworkError):
    """The peer made no progress within the deadline; its connection is closed or about to be."""


async def read_frame(stream: Stream, limit: int, progress_timeout: float) -> bytes:
    """Read one frame of at most `limit` bytes.

    Raises:
        NetworkError: too long (refused before anything is allocated), cut off, or the hash does not match.
        Stalled: nothing came for `progress_timeout` seconds, or it came at less than 4 KiB/s.
    """
    length, digest = _HEADER.unpack(await _read(stream, _HEADER.size, progress_timeout))
    if length > limit:
        raise NetworkError(f"a frame of {length} bytes where at most {limit} are accepted")
    data = await _read(stream, length, progress_timeout)
    if hashlib.sha256(data).digest() != digest:
        raise NetworkError("a frame whose content does not match its hash: it was damaged or forged")
    return data


async def _read(stream: Stream, size: int, progress_timeout: float) -> bytes:
    data = bytearray()
    with trio.move_on_after(progress_timeout + size / MIN_RATE):
        while len(data) < size:
            with trio.move_on_after(progress_timeout) as progress:
                chunk = await stream.read(min(CHUNK, size - len(data)))
            if progress.cancelled_caught:
                break
            if not chunk:
                raise NetworkError(f"the stream ended after {len(data)} of {size} bytes")
            data += chunk
        else:
            return bytes(data)
    raise Stalled(f"{len(data)} of {size} bytes came, then none for too long")


async def write_frame(stream: Stream, data: bytes, progress_timeout: float, abort: Callable[[], None]) -> None:
    """Write one frame; `abort` closes the connection of a reader that takes nothing for `progress_timeout` seconds.

    Raises:
        Stalled: the reader was too slow.
    """
    view = memoryview(_HEADER.pack(len(data), hashlib.sha256(data).digest()) + data)
    for start in range(0, len(view), CHUNK):
        async with _deadline(progress_timeout, abort):
            await stream.write(bytes(view[start : start + CHUNK]))


@asynccontextmanager
async def _deadline(seconds: float, abort: Callable[[], None]) -> AsyncIterator[None]:
    """Like `trio.fail_after`, but it first calls `abort`: a frame half-written is shielded from cancellation."""
    expired = False

    async def watch() -> None:
        nonlocal expired
        await trio.sleep(seconds)
        expired = True
        abort()
        nursery.cancel_scope.cancel()

    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        try:
            yield
        except Exception as error:  # raised outside the nursery, which would wrap it in a group
            failure = error
        nursery.cancel_scope.cancel()
    if expired:
        raise Stalled(f"the peer took nothing for {seconds:.0f} s") from failure
    if failure is not None:
        raise failure
