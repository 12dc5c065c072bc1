"""The HTTP API of one daemon as an ASGI application: its routes; described by `openapi`, guarded by `guard`.

Reading is free on this PC. What changes anything is POST or PUT with `Authorization: Bearer TOKEN`. The dashboard, at
`/`, has its rights from `learnae dashboard`: that opens `/?ticket=TICKET`, which leads to `/#key=KEY`. The page keeps
KEY in its localStorage, clears the address, and sends `Authorization: Bearer KEY`; without a key it can only read.
`GET /api/session` says `{"steer": bool}` for the key that is sent with it: keys end with the daemon. See `access`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from learnae.errors import LearnaeError
from learnaed import logs
from learnaed.status import metrics, pages
from learnaed.status.access import TICKET_SECONDS, Access
from learnaed.status.events import Events
from learnaed.status.guard import MAX_BODY, problem, unauthorised
from learnaed.status.openapi import CID_PATTERN
from learnaed.status.query import number, only, whole
from learnaed.status.source import StatusSource

BODY_SECONDS = 30.0
LONGEST_PAUSE = 366 * 86400.0
UPDATES, MOST_UPDATES = 100, 1000

Handler = Callable[[Request], Awaitable[Response]]


def build(source: StatusSource, access: Access, figures: Callable[[], dict[str, int]]) -> Starlette:
    """The application, without guards.

    Args:
        source: what to show and steer.
        access: who may do what.
        figures: what the server says of itself.
    """
    events = Events(source.feed)

    def post(path: str, handler: Handler) -> Route:
        return Route(path, _steering(access, handler), methods=["POST"])

    def everything() -> dict[str, Any]:
        return source.status() | {"api": {**figures(), "streams": events.streams}}

    # --- to be read

    async def status(request: Request) -> Response:
        return JSONResponse(everything())

    async def peers(request: Request) -> Response:
        return JSONResponse(source.peers())

    async def updates(request: Request) -> Response:
        only(request, "limit")
        limit = whole(request, "limit", 1, MOST_UPDATES)
        return JSONResponse(await source.updates(UPDATES if limit is None else limit))

    async def history(request: Request) -> Response:
        only(request, "since")
        rows = source.history.rows(number(request, "since", 0.0, 1e12) or 0.0)
        return JSONResponse({"every": source.history.every, "rows": [asdict(row) for row in rows]})

    async def doctor(request: Request) -> Response:
        return JSONResponse(source.diagnosis())

    async def snapshots(request: Request) -> Response:
        return JSONResponse(await source.snapshots())

    async def healthz(request: Request) -> Response:
        healthy, detail = source.healthy()
        return JSONResponse({"healthy": healthy, "detail": detail}, 200 if healthy else 503)

    async def prometheus(request: Request) -> Response:
        return Response(metrics.render(everything(), source.healthy()[0]), media_type=metrics.CONTENT_TYPE)

    async def session(request: Request) -> Response:
        return JSONResponse({"steer": access.may_steer(request.headers.get("authorization"))})

    # --- to steer

    async def pause(request: Request) -> Response:
        await _body(request)
        only(request, "seconds")
        await source.pause(number(request, "seconds", 1.0, LONGEST_PAUSE))
        return _accepted("pause")

    async def resume(request: Request) -> Response:
        await _body(request)
        await source.resume()
        return _accepted("resume")

    async def finish(request: Request) -> Response:
        await _body(request)
        await source.command("finish")
        return _accepted("finish")

    async def stop(request: Request) -> Response:
        await _body(request)
        # Answered first: stopping takes this server down too.
        return _accepted("stop", BackgroundTask(source.command, "stop"))

    async def pin(request: Request) -> Response:
        cid = await _cid(request)
        return JSONResponse(await source.pin(cid))

    async def unpin(request: Request) -> Response:
        await source.unpin(await _cid(request))
        return JSONResponse({"accepted": "unpin"})

    async def take(request: Request) -> Response:
        await _body(request)
        only(request, "path")
        path = request.query_params.get("path", "")
        if not path or "\0" in path:
            raise HTTPException(400, "which file? Add ?path= with the whole path of one on this PC")
        return JSONResponse(await source.take(Path(path)))

    async def change_limits(request: Request) -> Response:
        try:
            changes = json.loads(await _body(request))
        except (ValueError, RecursionError):
            changes = None
        if not isinstance(changes, dict):
            raise HTTPException(400, "the body must be a JSON object with the limits to change; see GET /api/limits")
        return JSONResponse(await source.set_limits(changes))

    async def limits(request: Request) -> Response:
        if request.method == "PUT":
            return await _steering(access, change_limits)(request)
        return JSONResponse(source.limits())

    async def ticket(request: Request) -> Response:
        await _body(request)
        return JSONResponse({"ticket": access.ticket(), "seconds": TICKET_SECONDS})

    return Starlette(
        routes=[
            Route("/api/status", status),
            Route("/api/peers", peers),
            Route("/api/updates", updates),
            Route("/api/history", history),
            Route("/api/events", events.answer),
            Route("/api/doctor", doctor),
            Route("/api/snapshots", snapshots),
            post("/api/snapshots/{cid}/pin", pin),
            post("/api/snapshots/{cid}/unpin", unpin),
            post("/api/import", take),
            post("/api/pause", pause),
            post("/api/resume", resume),
            post("/api/finish", finish),
            post("/api/stop", stop),
            Route("/api/limits", limits, methods=["GET", "PUT"]),
            post("/api/ticket", ticket),
            Route("/api/session", session),
            Route("/metrics", prometheus),
            Route("/healthz", healthz),
            *pages.routes(access),
        ],
        exception_handlers={HTTPException: _refused, LearnaeError: _conflict},
    )


def _steering(access: Access, handler: Handler) -> Handler:
    async def authorised(request: Request) -> Response:
        if not access.may_steer(request.headers.get("authorization")):
            return unauthorised()
        return await handler(request)

    return authorised


def _accepted(verb: str, background: BackgroundTask | None = None) -> Response:
    return JSONResponse({"accepted": verb}, 202, background=background)


async def _body(request: Request) -> bytes:
    """The whole body. Answers 413 if it is too large, 408 if it does not come."""
    body = b""
    with trio.move_on_after(BODY_SECONDS) as scope:
        async with aclosing(request.stream()) as stream:
            async for chunk in stream:
                body += chunk
                if len(body) > MAX_BODY:
                    raise HTTPException(413, f"the request body is larger than {MAX_BODY} bytes")
    if scope.cancelled_caught:
        raise HTTPException(408, f"the request body did not come within {BODY_SECONDS:.0f} seconds")
    return body


async def _cid(request: Request) -> str:
    """The CID in the path, which may still be that of nothing."""
    await _body(request)
    text = str(request.path_params["cid"])
    if not re.fullmatch(CID_PATTERN, text):
        raise HTTPException(400, "this is no CID: copy it from `learnae snapshots`")
    return text


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message, path = error.detail, request.url.path[:80]
    headers = dict(error.headers or {})
    if error.status_code == 404 and message == "Not Found":
        message = f"there is nothing at {path!r}; see /api/docs"
    if error.status_code == 405:
        allowed = sorted({*headers["Allow"].split(", ")} - {"HEAD"})
        headers["Allow"] = ", ".join(allowed)
        message = f"{path!r} does not take {request.method[:20]}: send {' or '.join(allowed)}"
        message += ", with the token" if "POST" in allowed else ""
    return problem(error.status_code, message, headers)


async def _conflict(request: Request, error: Exception) -> Response:
    return problem(409, logs.explain(error), code=getattr(error, "code", None))
