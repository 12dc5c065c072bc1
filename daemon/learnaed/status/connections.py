"""Accepts connections for hypercorn: so many at a time and a second, none that stops reading; used by `server`."""

from __future__ import annotations

import socket
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.types import ASGIApp

from learnaed import logs
from learnaed.status import pace
from learnaed.status.pace import Pace

MAX_CONNECTIONS = 128
"""At a time; the next one is told so, and closed. Each costs some 40 kB."""
SEND_SECONDS = 10.0
"""A client that takes nothing for so long is cut off."""
SEND_BYTES = 64 * 1024
"""What is sent at a time, and what the system keeps for a client that is slow."""
_BODY = b'{"error": "too many connections at a time; close some, or come again", "code": "too-many-requests"}'
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)

log = logs.get("status")


class PatientStream:
    """What hypercorn needs of a TCP stream. It sends under a shield against cancellation, so the deadline is here."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket
        self.client: tuple[str, int] | None = None
        """Host and port."""
        with suppress(OSError):  # it has gone already
            self.client = stream.socket.getpeername()[:2]
        self.ended = False
        """Whether the client has gone, or wants no more."""

    async def send_all(self, data: bytes) -> None:
        """Send, as long as the client takes some of it every ten seconds."""
        for start in range(0, len(data), SEND_BYTES):
            with trio.move_on_after(SEND_SECONDS) as scope:
                await self._stream.send_all(memoryview(data)[start : start + SEND_BYTES])
            if scope.cancelled_caught:
                self.abort()
                raise trio.BrokenResourceError("the client does not read")

    async def receive_some(self, most: int | None = None) -> bytes:
        """The next bytes."""
        try:
            data = await self._stream.receive_some(most)
        except BaseException:
            self.ended = True
            raise
        self.ended = not data
        return data

    async def send_eof(self) -> None:
        """Say that no more will come."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    def abort(self) -> None:
        """Close it now; whoever waits for it, shielded or not, gets an error."""
        self.socket.close()


class _Server(TCPServer):
    """Speaks HTTP/1.1 and nothing else: HTTP/2 would bring a hundred requests over one connection."""

    async def _read_data(self) -> None:
        # Without its wrapper, which changes over to HTTP/2 where a client wants to: that ends the connection now.
        self.protocol = self.protocol.protocol  # type: ignore[assignment]
        await super()._read_data()


class _Paced(trio.abc.Listener[trio.SocketStream]):
    """Accepts as fast as the pace allows."""

    def __init__(self, listener: trio.SocketListener, pace: Pace) -> None:
        self._listener = listener
        self._pace = pace

    async def accept(self) -> trio.SocketStream:
        await self._pace.turn()
        return await self._listener.accept()

    async def aclose(self) -> None:
        await self._listener.aclose()


class Connections:
    """The connections of all addresses of one daemon."""

    def __init__(self, config: HypercornConfig) -> None:
        self._config = config
        self._pace = Pace(*pace.CONNECTIONS)
        self._open: set[PatientStream] = set()
        self.turned_away = 0
        """Connections that came when there were too many."""

    def __len__(self) -> int:
        return len(self._open)

    def has(self, client: tuple[str, int] | None) -> bool:
        """Whether this client, host and port, is still there to take an answer."""
        return any(stream.client == client and not stream.ended for stream in self._open)

    async def serve(self, app: ASGIApp, listener: socket.socket) -> None:
        """Serve `app` on a socket that listens, until cancelled; then every connection is closed at once."""
        context = WorkerContext(None)
        wrapped: Any = ASGIWrapper(app)  # type: ignore[arg-type]

        async def handle(stream: trio.SocketStream) -> None:
            if len(self._open) >= MAX_CONNECTIONS:
                self.turned_away += 1
                await _turn_away(stream)
                return
            patient = PatientStream(stream)
            patient.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
            self._open.add(patient)
            server: Awaitable[None] = _Server(wrapped, self._config, context, ConnectionState({}), patient)  # type: ignore[arg-type]
            try:
                await server
            except Exception as error:
                log.debug("a connection to the status endpoint failed", error=logs.explain(error), exc_info=error)
            finally:
                self._open.discard(patient)
                patient.abort()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._abort_at_the_end)
            incoming = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
            await trio.serve_listeners(handle, [_Paced(incoming, self._pace)])

    async def _abort_at_the_end(self) -> None:
        # A send that hangs is shielded against cancellation, and would keep the daemon from ending.
        try:
            await trio.sleep_forever()
        finally:
            for patient in list(self._open):
                patient.abort()


async def _turn_away(stream: trio.SocketStream) -> None:
    with trio.move_on_after(1.0):
        async with stream:
            await stream.send_all(_FULL)
