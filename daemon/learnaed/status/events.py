"""The feed as a stream of server-sent events, or as a JSON list; a route of `api`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from learnaed.feed import Event, Feed
from learnaed.status.query import number, only, whole

MAX_STREAMS = 64
HEARTBEAT_SECONDS = 15.0
"""Of silence, after which a comment says that the stream is alive."""
PACE_SECONDS = 0.25
"""What happens meanwhile is sent at once: more is cheaper with many clients, and later to be seen."""
MAX_WAIT = 60.0
_RETRY = b"retry: 2000\n\n"
_ALIVE = b": alive\n\n"


class Events:
    """The route."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.streams = 0
        """Open at the moment."""

    async def answer(self, request: Request) -> Response:
        """`GET /api/events`."""
        only(request, "since", "wait")
        since = whole(request, "since", 0, 2**53 - 1)
        wait = number(request, "wait", 0.0, MAX_WAIT) or 0.0
        accept = request.headers.get("accept", "")
        if "application/json" in accept and "text/event-stream" not in accept:
            return JSONResponse(await self._list(since, wait))
        if self.streams >= MAX_STREAMS:
            raise HTTPException(503, f"{MAX_STREAMS} event streams are open already; close one", {"Retry-After": "10"})
        last = request.headers.get("last-event-id", "")
        return _Stream(self, self._feed, int(last) if last.isdecimal() and len(last) < 17 else since)

    async def _list(self, since: int | None, wait: float) -> list[dict[str, Any]]:
        after = self._feed.last if since is None and wait else since or 0
        with trio.move_on_after(wait):
            await self._feed.wait(after)
        events = self._feed.since(after)
        return [{"id": event.id, "time": event.time, "kind": event.kind, "data": event.data} for event in events]


class _Stream(Response):
    """Ends when the client does."""

    media_type = "text/event-stream"

    def __init__(self, events: Events, feed: Feed, since: int | None) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._events = events
        self._feed = feed
        self._since = since

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._events.streams += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, send)
                while (await receive())["type"] != "http.disconnect":
                    pass
                nursery.cancel_scope.cancel()
        finally:
            self._events.streams -= 1

    async def _send(self, send: Send) -> None:
        async def write(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        # From before the first byte: what happens once the client knows of the stream must be in it.
        with self._feed.subscribe(self._since) as news:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await write(_RETRY)
            while True:
                with trio.move_on_after(HEARTBEAT_SECONDS) as silence:
                    events = await anext(news)
                await write(_ALIVE if silence.cancelled_caught else encoded(events))
                await trio.sleep(PACE_SECONDS)


def encoded(events: Iterable[Event]) -> bytes:
    """These events in the format of server-sent events."""
    return b"".join(
        f"id: {event.id}\nevent: {event.kind}\ndata: {json.dumps({'time': event.time, **event.data})}\n\n".encode()
        for event in events
    )
