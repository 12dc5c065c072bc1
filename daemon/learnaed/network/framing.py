"""Frames on a libp2p stream: u32 length, SHA-256, bytes; bounded in size and time; used by `exchange`."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from learnae.errors import NetworkError

_HEADER = struct.Struct("!I32s")
CHUNK = 32 * 1024
# Slower than this, header excepted, is treated as no progress: a byte a second could hold a slot for days.
MIN_RATE = 4 * 1024


Turn = Callable[[int], Awaitable[int]]
"""Waits until some of so many bytes may be sent, and says how many."""
Settle = Callable[[], Awaitable[None]]
"""Waits until more may be read."""


async def at_once(size: int) -> int:
    """The turn of what does not wait."""
    return size


class Stream(Protocol):
    """The part of a libp2p stream that frames need."""

    async def read(self, n: int | None = None) -> bytes: ...

    async def write(self, data: bytes) -> None: ...


class Stalled(NetworkError):
    """The peer made no progress within the deadline; its connection is closed or about to be."""


async def read_frame(
    stream: Stream, limit: int, progress_timeout: float, settle: Settle = trio.lowlevel.checkpoint
) -> bytes:
    """Read one frame of at most `limit` bytes. What `settle` waits for does not count against the peer.

    Raises:
        NetworkError: too long (refused before anything is allocated), cut off, or the hash does not match.
        Stalled: nothing came for `progress_timeout` seconds, or it came at less than 4 KiB/s.
    """
    length, digest = _HEADER.unpack(await _read(stream, _HEADER.size, progress_timeout, trio.lowlevel.checkpoint))
    if length > limit:
        raise NetworkError(f"a frame of {length} bytes where at most {limit} are accepted")
    data = await _read(stream, length, progress_timeout, settle)
    if hashlib.sha256(data).digest() != digest:
        raise NetworkError("a frame whose content does not match its hash: it was damaged or forged")
    return data


async def _read(stream: Stream, size: int, progress_timeout: float, settle: Settle) -> bytes:
    data = bytearray()
    with trio.move_on_after(progress_timeout + size / MIN_RATE) as whole:
        while len(data) < size:
            left, whole.deadline = whole.deadline - trio.current_time(), math.inf
            await settle()
            whole.deadline = trio.current_time() + left
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


async def write_frame(
    stream: Stream, data: bytes, progress_timeout: float, abort: Callable[[], None], turn: Turn = at_once
) -> None:
    """Write one frame; `abort` closes the connection of a reader that takes nothing for `progress_timeout` seconds.
    What `turn` waits for does not count against it.

    Raises:
        Stalled: the reader was too slow.
    """
    view = memoryview(_HEADER.pack(len(data), hashlib.sha256(data).digest()) + data)
    while view:
        size = await turn(min(CHUNK, len(view)))
        async with _deadline(progress_timeout, abort):
            await stream.write(bytes(view[:size]))
        view = view[size:]


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
