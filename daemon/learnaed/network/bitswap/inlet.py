"""Reads a libp2p stream in few wake-ups and few copies; used by `link`.

libp2p wakes a reader for every frame, through five layers with a lock each, and copies what it gives thrice. A block is
of no use before all of it is there. So its reader sleeps until then, and takes it at once, out of a buffer that it lent
to Yamux.
"""

from __future__ import annotations

from typing import Any, Final

import trio
from libp2p.network.stream.exceptions import StreamEOF

from learnaed.network.bitswap.pieces import Pieces
from learnaed.network.host import socket_of


class Inlet:
    """One stream's end that is read. Used by one task; `poke` may come from another."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._muxed = stream.muxed_stream
        self._connection = stream.muxed_stream.conn
        self._enough: _Enough | None = None
        buffers, number = self._connection.stream_buffers, self._muxed.stream_id
        if number in buffers:
            buffers[number] = Pieces([bytes(buffers[number])])

    @property
    def waiting(self) -> int:
        """Bytes that are there."""
        return len(self._buffer)

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        muxed = self._muxed
        return bool(
            muxed.recv_closed
            or muxed.closed
            or muxed.reset_received
            or self._connection.event_shutting_down.is_set()
            or muxed.stream_id not in self._connection.stream_events
        )

    def peek(self, size: int) -> bytes:
        """The first bytes of those that are there."""
        return self._buffer[:size]

    async def wait(self, size: int) -> None:
        """Wait for so many bytes, or half a window, which is all that a peer can send until some are taken; for less
        if the stream ends, or if some are there when it is poked."""
        size = min(size, self._muxed.target_recv_window // 2)
        while self.waiting < size and not self.over:
            events, number = self._connection.stream_events, self._muxed.stream_id
            events[number] = self._enough = _Enough(self, size)
            try:
                await self._enough.woken.wait()
                if self.waiting:
                    return
            finally:
                if events.get(number) is self._enough:
                    events[number] = trio.Event()
                self._enough = None

    async def settle(self) -> bool:
        """Wait until more bulk may be read; whether there is such a limit."""
        socket = socket_of(self._connection)
        if socket.throttles.download.rate is None:
            return False
        await socket.settle()
        return True

    def poke(self) -> None:
        """Have the one that waits make do with what is there."""
        if self._enough is not None and (self.waiting or self.over):
            self._enough.woken.set()

    async def take(self, size: int) -> bytes:
        """Up to `size` bytes of those that are there, or the next that come; none at the end of the stream.

        Raises:
            BaseLibp2pError: the stream or the connection broke.
        """
        if not self._buffer or self.over:
            try:
                return bytes(await self._stream.read(size))
            except StreamEOF:
                return b""
        data = self._buffer.take(size)
        await self._muxed._auto_tune_and_send_window_update(bytes_read=len(data))
        return data

    @property
    def _buffer(self) -> Pieces:
        buffer: Pieces = self._connection.stream_buffers.get(self._muxed.stream_id, _NOTHING)
        return buffer


_NOTHING: Final = Pieces()


class _Enough:
    """Stands in for the event that Yamux sets for every frame: it wakes nobody before enough is there."""

    def __init__(self, inlet: Inlet, size: int) -> None:
        self._inlet = inlet
        self._size = size
        self.woken = trio.Event()

    def set(self) -> None:
        if self._inlet.waiting >= self._size or self._inlet.over:
            self.woken.set()

    async def wait(self) -> None:
        """For a reader of libp2p's own, should there be one."""
        await self.woken.wait()
