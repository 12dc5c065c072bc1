"""Cures for py-libp2p 0.8.1 that need its own classes changed, applied once at import; used by the host.

What can be done by a subclass is done by one (`host.py`, `pubsub.py`, `transport.py`). Left here are classes that
libp2p instantiates by name. Each patch says what it cures.
"""

from __future__ import annotations

import logging
import os
import struct
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import trio
from libp2p.exceptions import ParseError
from libp2p.network.connection import swarm_connection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.protocol_muxer import multiselect_communicator
from libp2p.pubsub import gossipsub, pubsub
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from learnae.errors import NetworkError

_log = logging.getLogger(__name__)

SUPPORTED = "0.8.1"
# A peer may have this much unread data waiting in one stream; libp2p grows it to 16 MiB and does not enforce it.
STREAM_WINDOW = 1024 * 1024
# Unread data of one connection, all streams together, before the connection is closed.
CONNECTION_BUFFER = 8 * 1024 * 1024
MAX_PROTOCOL_NAME = 4096
# How long a writer waits for a reader that takes nothing. Requests have shorter deadlines of their own.
WRITE_STALL = 60.0
# One Yamux frame with its header fills one Noise message. Bulk data is best written in pieces of this size.
FRAME = 65519 - 12
_DATA = struct.Struct("!BBHII")

_PATCHED: dict[type, tuple[str, ...]] = {
    Yamux: ("_write_frame", "_measure_rtt_loop", "_read_data_body", "start", "stream_buffers"),
    YamuxStream: ("write", "send_window", "_auto_tune_and_send_window_update"),
    SwarmConn: ("start", "_handle_muxed_stream"),
}


def check() -> None:
    """Refuse to run on a libp2p that the patches were not written for.

    Raises:
        NetworkError: another version, or a patched name is gone.
    """
    try:
        found = version("libp2p")
    except PackageNotFoundError:
        found = "none"
    remedy = f"Install the version that learnae is tested with: pip install libp2p=={SUPPORTED}"
    if found != SUPPORTED:
        raise NetworkError(
            f"learnae needs libp2p {SUPPORTED} and found {found}, whose internals may differ. {remedy}",
            code="libp2p-version",
        )
    if not hasattr(multiselect_communicator, "read_delim"):
        raise NetworkError(
            f"libp2p's read_delim is not where it was: this is not {SUPPORTED}. {remedy}", code="libp2p-version"
        )
    if not all(hasattr(module, "env_to_send_in_RPC") for module in (gossipsub, pubsub)):
        raise NetworkError(
            f"libp2p's env_to_send_in_RPC is not where it was: this is not {SUPPORTED}. {remedy}", code="libp2p-version"
        )
    attributes = {"stream_buffers", "send_window"}  # of instances
    for owner, names in _PATCHED.items():
        for name in names:
            if name not in attributes and not hasattr(owner, name):
                raise NetworkError(
                    f"libp2p's {owner.__name__}.{name} is missing: this is not {SUPPORTED}. {remedy}",
                    code="libp2p-version",
                )


def apply() -> None:
    """Check the version and patch, once per process.

    Raises:
        NetworkError: see `check`.
    """
    if getattr(Yamux, "_learnae_patched", False):
        return
    check()
    _quiet_logs()
    _bound_yamux()
    _bound_negotiation()
    _wake_yamux_writers()
    _release_windows_in_bulk()
    _keep_address_records_home()
    _guard_connections()
    Yamux._learnae_patched = True  # type: ignore[attr-defined]


def _quiet_logs() -> None:
    """libp2p logs a stranger's garbage as errors with tracebacks, and partly to the root logger, which `logging.debug`
    then configures. Both go to the "libp2p" logger, which stays silent unless LIBP2P_DEBUG is set."""
    logger = logging.getLogger("libp2p")
    if not os.environ.get("LIBP2P_DEBUG"):
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False  # some of its modules set levels of their own
        logger.addHandler(logging.NullHandler())
    logging.getLogger("multiaddr").setLevel(logging.WARNING)
    vars(swarm_connection)["logging"] = logging.getLogger("libp2p.network.connection")


def _bound_yamux() -> None:
    """A peer that ignores its receive window could fill the memory: libp2p only logs it. Frames larger than a window
    and connections with too much unread data are closed (libp2p closes on TooSlowError)."""
    yamux.MAX_WINDOW_SIZE = STREAM_WINDOW
    original = Yamux._read_data_body

    async def _read_data_body(self: Yamux, length: int) -> bytes:
        unread = sum(map(len, self.stream_buffers.values()))
        if length + unread > CONNECTION_BUFFER:
            count(self, "buffer-overrun")
            raise trio.TooSlowError
        return await original(self, length)

    async def _measure_rtt_loop(self: Yamux) -> None:
        """The watch in `host.py` pings instead, and only connections that have been silent."""

    Yamux._read_data_body = _read_data_body  # type: ignore[method-assign]
    Yamux._measure_rtt_loop = _measure_rtt_loop  # type: ignore[method-assign]


def _bound_negotiation() -> None:
    """Protocol names have no length limit in libp2p: a stranger could send gigabytes of one."""

    async def read_delim(reader: Any) -> bytes:
        line = await read_varint_prefixed_bytes_limited(reader, MAX_PROTOCOL_NAME)
        if not line.endswith(b"\n"):
            raise ParseError("a protocol name without its newline")
        return line[:-1]

    vars(multiselect_communicator)["read_delim"] = read_delim


def _wake_yamux_writers() -> None:
    """A writer waiting for window polled every 10 ms and failed after 5 s; now the window's growth wakes it. A frame is
    written under a shield: cancelled half-way it broke the whole connection. Whoever needs a shielded writer to stop
    aborts the socket."""

    def get_window(self: YamuxStream) -> int:
        return self.__dict__["_learnae_window"]  # type: ignore[no-any-return]

    def set_window(self: YamuxStream, value: int) -> None:
        self.__dict__["_learnae_window"] = value
        waiting = self.__dict__.get("_learnae_waiting")
        if value > 0 and waiting is not None:
            waiting.set()
            self.__dict__["_learnae_waiting"] = None

    async def wait_for_window(self: YamuxStream) -> None:
        waited = 0.0
        while self.send_window <= 0:
            if self.send_closed or self.closed:
                raise MuxedStreamError("the stream is closed for sending")
            if waited >= WRITE_STALL:
                raise MuxedStreamError(f"the reader took nothing for {WRITE_STALL:.0f} s")
            waiting = self.__dict__.get("_learnae_waiting")
            if waiting is None:
                waiting = self.__dict__["_learnae_waiting"] = trio.Event()
            with trio.move_on_after(1.0) as scope:  # looks at `closed` once a second: nothing wakes us on a reset
                await waiting.wait()
            waited += 1.0 if scope.cancelled_caught else 0.0

    async def write(self: YamuxStream, data: bytes) -> None:
        view = memoryview(data)
        sent = 0
        while sent < len(view):
            await wait_for_window(self)
            if self.send_closed or self.closed:
                raise MuxedStreamError("the stream is closed for sending")
            size = min(self.send_window, FRAME, len(view) - sent)
            self.send_window -= size
            await self.conn._write_frame(_DATA.pack(0, 0, 0, self.stream_id, size) + view[sent : sent + size])
            sent += size
        await trio.lowlevel.checkpoint()

    async def _write_frame(self: Yamux, data: bytes) -> None:
        async with self._write_lock:
            with trio.CancelScope(shield=True):
                await self.secured_conn.write(data)

    YamuxStream.send_window = property(get_window, set_window)  # type: ignore[assignment]
    YamuxStream.write = write  # type: ignore[method-assign]
    Yamux._write_frame = _write_frame  # type: ignore[method-assign]


def _release_windows_in_bulk() -> None:
    """libp2p answers nearly every read, be it of one byte, with a window update: a packet and its acknowledgement each.
    Now a reader gives the window back when half of it is used up, and doubles it then, up to `STREAM_WINDOW`. Where
    downloads are limited it gives it back in small parts, so that the peer sees progress, and does not double it."""

    async def release(self: YamuxStream, *, bytes_read: int = 0) -> None:
        self._pending_recv_release += bytes_read
        throttles = getattr(getattr(self.conn, "swarm", None), "throttles", None)
        piece = throttles.download.piece if throttles is not None else None
        if self._pending_recv_release < min(self.target_recv_window // 2, piece or STREAM_WINDOW):
            return
        growth = 0 if piece else min(self.target_recv_window, STREAM_WINDOW - self.target_recv_window)
        released = self._pending_recv_release + growth
        self.target_recv_window += growth
        self.recv_window += released
        self._pending_recv_release = 0
        await self.send_window_update(released)

    YamuxStream._auto_tune_and_send_window_update = release  # type: ignore[method-assign]


def _keep_address_records_home() -> None:
    """libp2p signs a record of its addresses for every pubsub message; `Gossip.write_msg` does not send them."""
    for module in (gossipsub, pubsub):
        vars(module)["env_to_send_in_RPC"] = lambda host: (b"", False)


def _guard_connections() -> None:
    """These run as tasks of the host: whatever a peer makes them raise would end it. Now it ends the connection."""
    start_muxer, start_connection, handle_stream = Yamux.start, SwarmConn.start, SwarmConn._handle_muxed_stream

    async def guarded_muxer(self: Yamux) -> None:
        try:
            await start_muxer(self)
        except Exception as error:
            refuse(self, error)
            await self._cleanup_on_error()

    async def guarded_connection(self: SwarmConn) -> None:
        try:
            await start_connection(self)
        except Exception as error:
            refuse(self, error)
            await self.close()

    async def guarded_stream(self: SwarmConn, muxed_stream: Any) -> None:
        try:
            await handle_stream(self, muxed_stream)
        except Exception as error:
            refuse(self, error)

    Yamux.start = guarded_muxer  # type: ignore[method-assign]
    SwarmConn.start = guarded_connection  # type: ignore[method-assign]
    SwarmConn._handle_muxed_stream = guarded_stream  # type: ignore[method-assign]


def refuse(connection: Any, error: Exception) -> None:
    """Count and log an exception that a peer caused inside libp2p."""
    count(connection, "connection-error")
    _log.debug("a peer broke its connection: %r", error, exc_info=error)


def count(connection: Any, reason: str) -> None:
    """Count something dropped at the swarm that `connection` (a Yamux or SwarmConn) belongs to."""
    counters = getattr(getattr(connection, "swarm", None), "counters", None)
    if counters is not None:
        counters.dropped[reason] += 1
