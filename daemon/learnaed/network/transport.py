"""TCP for libp2p with byte counters, read buffering and an abort that never waits; used by the swarm."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from libp2p.abc import IListener, IRawConnection, ITransport
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr

from learnae.errors import WireError
from learnaed.network.addresses import Address
from learnaed.network.settings import Counters
from learnaed.network.throttle import Throttles

_log = logging.getLogger(__name__)
_CHUNK = 64 * 1024
SMALL = 4 * 1024
"""Messages up to this many bytes are not bulk."""
_ENVELOPE = 12 + 18
"""What Yamux and Noise add to a frame."""


class MeteredStream(ReadWriteCloser):
    """One TCP connection. Reads ask the kernel for 64 KiB at a time: libp2p asks for 2 bytes, then n, then 2 again.

    Writers of bulk ask for their `turn` before they write, outside of every lock, and readers of bulk `settle` before
    they read: else heartbeats would stand in line behind a frame that waits for the limit.
    """

    def __init__(self, stream: trio.SocketStream, counters: Counters, throttles: Throttles) -> None:
        self._stream = stream
        self._counters = counters
        self.throttles = throttles
        self._turns = trio.Lock()
        self._granted = 0
        self._gone = trio.Event()
        self._buffer = b""
        self._position = 0
        self._write_lock = trio.Lock()
        self.last_received = trio.current_time()
        self.sent = self.received = 0
        try:
            host, port, *_ = stream.socket.getpeername()
            self._remote: tuple[str, int] | None = (str(host), int(port))
        except OSError:
            self._remote = None

    async def read(self, n: int | None = None) -> bytes:
        """Up to `n` bytes; b"" at the end of the stream."""
        if self._position >= len(self._buffer):
            try:
                self._buffer = bytes(await self._stream.receive_some(_CHUNK))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionClosedError(str(error), transport="tcp") from error
            self._position = 0
            self._counters.bytes_received += len(self._buffer)
            self.received += len(self._buffer)
            self.throttles.download.count(len(self._buffer))
            self.last_received = trio.current_time()
        end = len(self._buffer) if n is None else self._position + n
        data = self._buffer[self._position : end]
        self._position += len(data)
        return data

    async def turn(self, size: int) -> int:
        """Wait until some of `size` bytes of bulk may be written; how many."""
        upload = self.throttles.upload
        if upload.rate is None:
            return size
        # A connection stands in line once, however many streams it has.
        async with self._turns:
            granted = min(size, upload.piece or size)
            await upload.bulk(granted + _ENVELOPE, self._gone)
            self._granted += granted + _ENVELOPE
        return granted

    async def settle(self) -> None:
        """Wait until more bulk may be read."""
        await self.throttles.download.settle(self._gone)

    async def write(self, data: bytes) -> None:
        async with self._write_lock:
            granted = min(self._granted, len(data))
            self._granted -= granted
            if granted < len(data):
                await self.throttles.upload.control(len(data) - granted, self._gone)
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionClosedError(str(error), transport="tcp") from error
        self._counters.bytes_sent += len(data)
        self.sent += len(data)

    def abort(self) -> None:
        """Close the socket now. Whoever waits on it, even shielded from cancellation, gets ConnectionClosedError."""
        self._gone.set()
        self._stream.socket.close()

    async def close(self) -> None:
        self.abort()

    def get_remote_address(self) -> tuple[str, int] | None:
        return self._remote


class MeteredListener(IListener):
    """Listens on one address, exclusively: libp2p's own listener sets SO_REUSEPORT, so two nodes could share a port."""

    def __init__(
        self, handler: Callable[[ReadWriteCloser], Awaitable[None]], counters: Counters, throttles: Throttles
    ) -> None:
        self._handler = handler
        self._counters = counters
        self._throttles = throttles
        self._listeners: Sequence[trio.SocketListener] = ()
        self._scope = trio.CancelScope()
        self.background_nursery: trio.Nursery | None = None  # set by the swarm before listen()

    async def listen(self, maddr: Multiaddr) -> None:
        address = Address.parse(str(maddr))
        if self.background_nursery is None:
            raise OpenConnectionError("the swarm is not running")
        try:
            self._listeners = await trio.open_tcp_listeners(address.port, host=address.host)
        except OSError as error:
            raise OpenConnectionError(f"cannot listen on {address}: {error}") from error
        self.background_nursery.start_soon(self._serve)

    async def _serve(self) -> None:
        with self._scope:
            await trio.serve_listeners(self._accept, self._listeners)

    async def _accept(self, stream: trio.SocketStream) -> None:
        try:
            await self._handler(MeteredStream(stream, self._counters, self._throttles))
        except Exception as error:
            self._counters.dropped["handshake"] += 1
            _log.debug("inbound connection failed: %r", error)

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        found = []
        for listener in self._listeners:
            host, port, *_ = listener.socket.getsockname()
            found.append(Multiaddr(f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}"))
        return tuple(found)

    async def close(self) -> None:
        self._scope.cancel()
        for listener in self._listeners:
            listener.socket.close()


class MeteredTCP(ITransport):
    """The transport handed to libp2p's swarm."""

    def __init__(self, counters: Counters, throttles: Throttles) -> None:
        self._counters = counters
        self._throttles = throttles

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        try:
            address = Address.parse(str(maddr))
            stream = await trio.open_tcp_stream(address.host, address.port)
        except (OSError, WireError) as error:
            raise OpenConnectionError(str(error)) from error
        return RawConnection(MeteredStream(stream, self._counters, self._throttles), True)

    def create_listener(self, handler_function: Any) -> IListener:
        return MeteredListener(handler_function, self._counters, self._throttles)

    def can_dial(self, maddr: Multiaddr) -> bool:
        return self.can_listen(maddr)

    def can_listen(self, maddr: Multiaddr) -> bool:
        try:
            Address.parse(str(maddr))
        except WireError:
            return False
        return True

    def protocols(self) -> list[str]:
        return ["tcp"]
