"""Requests to one peer and answers to others, one stream each; used by `Network`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID

from learnae.errors import NetworkError, WireError
from learnaed.network.framing import Stalled, at_once, read_frame, write_frame
from learnaed.network.host import Host, socket_of
from learnaed.network.settings import Counters
from learnaed.network.transport import SMALL

_log = logging.getLogger(__name__)

Handler = Callable[[bytes, str], Awaitable[bytes]]

SERVE_PROGRESS = 5.0
MAX_SERVING = 32
MAX_SERVING_PER_PEER = 8


class Exchange:
    """The protocols served here, and the client side of the same."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._served: dict[str, tuple[Handler, int]] = {}
        self._busy: dict[str, int] = {}

    def serve(self, protocol: str, handler: Handler, max_request: int) -> None:
        self._served[protocol] = (handler, max_request)

    def attach(self, host: Host) -> None:
        """Register everything that is served with a (new) host."""
        for protocol in self._served:
            self.attach_one(host, protocol)

    def attach_one(self, host: Host, protocol: str) -> None:
        async def answer(stream: Any) -> None:
            await self._answer(stream, protocol)

        host.streams.set_stream_handler(TProtocol(protocol), answer)

    async def _answer(self, stream: Any, protocol: str) -> None:
        peer = str(stream.muxed_conn.peer_id)
        if sum(self._busy.values()) >= MAX_SERVING or self._busy.get(peer, 0) >= MAX_SERVING_PER_PEER:
            self._counters.dropped["busy"] += 1
            await stream.reset()
            return
        self._busy[peer] = self._busy.get(peer, 0) + 1
        try:
            await self._answer_one(stream, protocol, peer)
            await stream.close()
        except Exception as error:
            _log.debug("request %s of %s failed: %r", protocol, peer, error)
            with trio.move_on_after(1.0):
                await stream.reset()
        finally:
            self._busy[peer] -= 1
            if not self._busy[peer]:
                del self._busy[peer]

    async def _answer_one(self, stream: Any, protocol: str, peer: str) -> None:
        handler, max_request = self._served[protocol]
        try:
            body = await read_frame(stream, max_request, SERVE_PROGRESS)
        except (NetworkError, BaseLibp2pError):
            self._counters.dropped["malformed-request"] += 1
            raise
        try:
            reply = await handler(body, peer)
        except WireError:
            self._counters.dropped["malformed-request"] += 1
            raise
        except Exception:
            self._counters.dropped["handler-error"] += 1
            _log.exception("the handler of %s failed", protocol)
            raise
        upload = socket_of(stream.muxed_conn).throttles.upload
        if len(reply) <= SMALL:
            await self._write(stream, reply, SERVE_PROGRESS)
        elif upload.full:
            # The peer does not wait for long: it can ask somebody else, or again.
            self._counters.dropped["busy"] += 1
            raise NetworkError("as much is being sent as the limit of uploads allows")
        else:
            async with upload.transfer():
                await self._write(stream, reply, SERVE_PROGRESS)
        self._counters.requests_served += 1

    @staticmethod
    async def _write(stream: Any, body: bytes, progress_timeout: float) -> None:
        socket = socket_of(stream.muxed_conn)
        turn = at_once if len(body) <= SMALL else socket.turn
        await write_frame(stream, body, progress_timeout, socket.abort, turn)

    async def request(
        self, host: Host | None, peer: str, protocol: str, body: bytes, max_reply: int, progress_timeout: float
    ) -> bytes:
        self._counters.requests_sent += 1
        try:
            if host is None or not host.reaches(peer):
                raise NetworkError("not connected")
            return await self._request(host, ID.from_base58(peer), protocol, body, max_reply, progress_timeout)
        except NetworkError as error:
            self._counters.requests_failed += 1
            raise NetworkError(f"request {protocol} to {peer}: {error}") from error
        except Exception as error:
            # libp2p lets through whatever a peer's bytes provoke, a UnicodeDecodeError while negotiating for instance.
            self._counters.requests_failed += 1
            raise NetworkError(f"request {protocol} to {peer}: the peer broke the protocol ({error!r})") from error

    async def _request(
        self, host: Host, peer: ID, protocol: str, body: bytes, max_reply: int, progress_timeout: float
    ) -> bytes:
        stream: Any = None
        finished = False
        try:
            with trio.move_on_after(progress_timeout):
                stream = await host.streams.new_stream(peer, [TProtocol(protocol)])
            if stream is None:
                raise Stalled("no stream could be opened in time")
            await self._write(stream, body, progress_timeout)
            reply = await read_frame(stream, max_reply, progress_timeout, socket_of(stream.muxed_conn).settle)
            finished = True
            return reply
        except (BaseLibp2pError, OSError) as error:
            raise NetworkError(f"the peer refused it or the connection broke ({error!r})") from error
        finally:
            if stream is not None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                    await (stream.close() if finished else stream.reset())
