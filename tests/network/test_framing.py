from __future__ import annotations

import hashlib
import struct

import pytest
import trio
from trio.testing import MockClock

from learnae.errors import NetworkError
from learnaed.network.framing import CHUNK, Stalled, read_frame, write_frame


class Pipe:
    """A stream that hands out what it is given, `step` bytes at a time and `pause` seconds apart."""

    def __init__(self, data: bytes = b"", step: int = 1 << 30, pause: float = 0.0) -> None:
        self.data, self.step, self.pause = data, step, pause
        self.largest = 0
        self.written = b""

    async def read(self, n: int | None = None) -> bytes:
        assert n is not None
        self.largest = max(self.largest, n)
        await trio.sleep(self.pause)
        taken, self.data = self.data[: min(n, self.step)], self.data[min(n, self.step) :]
        return taken

    async def write(self, data: bytes) -> None:
        await trio.sleep(self.pause)
        self.written += data


def frame(data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + hashlib.sha256(data).digest() + data


def unexpected() -> None:
    raise AssertionError("aborted")


@pytest.mark.parametrize("size", [0, 1, CHUNK - 36, CHUNK, 3 * CHUNK + 1])
async def test_round_trip_in_any_pieces(size: int, autojump_clock: MockClock) -> None:
    data = bytes(size)
    pipe = Pipe()
    await write_frame(pipe, data, 5.0, unexpected)
    assert pipe.written == frame(data)
    assert await read_frame(Pipe(pipe.written, step=777), size, 5.0) == data


async def test_a_huge_length_is_refused_before_anything_is_read(autojump_clock: MockClock) -> None:
    pipe = Pipe(struct.pack("!I", 100_000_000) + bytes(32))
    with pytest.raises(NetworkError, match="at most 1000"):
        await read_frame(pipe, 1000, 5.0)
    assert pipe.largest == 36


async def test_wrong_hash_and_truncation_are_named(autojump_clock: MockClock) -> None:
    damaged = bytearray(frame(b"hello"))
    damaged[-1] ^= 1
    with pytest.raises(NetworkError, match="hash"):
        await read_frame(Pipe(bytes(damaged)), 100, 5.0)
    with pytest.raises(NetworkError, match="ended after 4 of 5"):
        await read_frame(Pipe(frame(b"hello")[:-1]), 100, 5.0)


async def test_silence_and_a_byte_a_second_are_stalls(autojump_clock: MockClock) -> None:
    with pytest.raises(Stalled):
        await read_frame(Pipe(frame(b"hello"), pause=6.0), 100, 5.0)
    started = trio.current_time()
    with pytest.raises(Stalled):
        await read_frame(Pipe(frame(bytes(200)), step=1, pause=1.0), 1000, 5.0)
    assert trio.current_time() - started < 12.0


async def test_a_slow_but_steady_reader_is_served(autojump_clock: MockClock) -> None:
    pipe = Pipe(frame(bytes(200_000)), step=20_000, pause=3.0)
    assert len(await read_frame(pipe, 200_000, 5.0)) == 200_000


async def test_a_reader_that_takes_nothing_is_aborted(autojump_clock: MockClock) -> None:
    aborted = trio.Event()
    with pytest.raises(Stalled):
        await write_frame(Pipe(pause=100.0), b"hello", 5.0, aborted.set)
    assert aborted.is_set()


async def test_an_error_of_the_stream_is_raised_as_itself(autojump_clock: MockClock) -> None:
    class Broken(Pipe):
        async def write(self, data: bytes) -> None:
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await write_frame(Broken(), b"hello", 5.0, unexpected)
