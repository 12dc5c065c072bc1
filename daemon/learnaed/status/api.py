"""The HTTP API of one daemon as an ASGI application: routes, Host and token checks, bounds; run by `server`."""

from __future__ import annotations

import hmac
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

import trio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from learnae.errors import LearnaeError
from learnaed import logs
from learnaed.status import metrics

VERBS = ("finish", "pause", "resume", "stop")
MAX_BODY = 4096  # Bytes. No verb needs a body at all.
BODY_SECONDS = 30.0

log = logs.get("status")


class StatusSource(Protocol):
    """What the endpoint shows and steers: the daemon."""

    def status(self) -> dict[str, Any]:
        """The node's state, ready for JSON."""

    def peers(self) -> list[dict[str, Any]]:
        """One entry per known peer, ready for JSON."""

    def diagnosis(self) -> dict[str, Any]:
        """What the node knows of its own troubles, ready for JSON."""

    def healthy(self) -> tuple[bool, str]:
        """Whether the node does its work, and a line that says why or why not."""

    async def snapshots(self) -> list[dict[str, Any]]:
        """One entry per cut that is kept, ready for JSON. Raises LearnaeError."""

    async def pin(self, cid: str) -> dict[str, Any]:
        """Keep a cut, fetching it if need be; its entry. Raises LearnaeError where that is not possible."""

    async def unpin(self, cid: str) -> None:
        """Take that back. Raises LearnaeError where that is not possible."""

    async def take(self, path: Path) -> dict[str, Any]:
        """Take in a file of this PC that holds a cut or a snapshot; what it was. Raises LearnaeError if that fails."""

    async def command(self, verb: str) -> None:
        """Do "finish", "pause", "resume" or "stop". Raises LearnaeError where that is not possible now."""


def build(source: StatusSource, port: int, token: str) -> ASGIApp:
    """The application. It answers requests for 127.0.0.1, localhost and [::1] at `port` alone.

    The Host check defeats DNS rebinding, and a page in a browser cannot send the token: no CORS header is ever sent.
    """

    async def status(request: Request) -> Response:
        return JSONResponse(source.status())

    async def peers(request: Request) -> Response:
        return JSONResponse(source.peers())

    async def doctor(request: Request) -> Response:
        return JSONResponse(source.diagnosis())

    async def snapshots(request: Request) -> Response:
        return JSONResponse(await source.snapshots())

    async def pin(request: Request) -> Response:
        _authorise(request, token)
        await _discard_body(request)
        return JSONResponse(await source.pin(request.path_params["cid"]), 200)

    async def unpin(request: Request) -> Response:
        _authorise(request, token)
        await _discard_body(request)
        await source.unpin(request.path_params["cid"])
        return JSONResponse({"accepted": "unpin"}, 200)

    async def take(request: Request) -> Response:
        _authorise(request, token)
        await _discard_body(request)
        path = request.query_params.get("path", "")
        if not path or "\0" in path:
            raise HTTPException(400, "which file? Add ?path= with the whole path of one on this PC")
        return JSONResponse(await source.take(Path(path)), 200)

    async def healthz(request: Request) -> Response:
        healthy, detail = source.healthy()
        return JSONResponse({"healthy": healthy, "detail": detail}, 200 if healthy else 503)

    async def prometheus(request: Request) -> Response:
        return Response(metrics.render(source.status(), source.healthy()[0]), media_type=metrics.CONTENT_TYPE)

    async def command(request: Request) -> Response:
        _authorise(request, token)
        await _discard_body(request)
        verb = request.path_params["verb"]
        if verb not in VERBS:
            raise HTTPException(404, f"there is no verb {verb[:40]!r}; there are: {', '.join(VERBS)}")
        answer = {"accepted": verb}
        if verb == "stop":
            # Answered first: stopping takes this server down too.
            return JSONResponse(answer, 202, background=BackgroundTask(source.command, verb))
        await source.command(verb)
        return JSONResponse(answer, 202)

    app = Starlette(
        routes=[
            Route("/api/status", status),
            Route("/api/peers", peers),
            Route("/api/doctor", doctor),
            Route("/api/snapshots", snapshots),
            Route("/api/snapshots/{cid}/pin", pin, methods=["POST"]),
            Route("/api/snapshots/{cid}/unpin", unpin, methods=["POST"]),
            Route("/api/import", take, methods=["POST"]),
            Route("/metrics", prometheus),
            Route("/healthz", healthz),
            Route("/api/{verb}", command, methods=["POST"]),
        ],
        exception_handlers={HTTPException: _refused, LearnaeError: _conflict},
    )
    hosts = frozenset(f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]"))
    return _Guard(app, hosts)


class _Guard:
    """Refuses foreign Host headers, and turns an unexpected exception into one answer instead of a dead server."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        hosts = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            refusal = _error(421, f"this endpoint answers on the local machine only: use http://{min(self._hosts)}")
            await refusal(scope, receive, send)
            return
        started = False

        async def watched(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            log.error("[defect] status request failed", path=scope["path"], error=logs.explain(error), exc_info=error)
            if not started:
                await _error(500, "the daemon failed to answer; its log says why")(scope, receive, send)


def _authorise(request: Request, token: str) -> None:
    given = request.headers.get("authorization", "").encode()
    if not hmac.compare_digest(given, f"Bearer {token}".encode()):
        raise HTTPException(
            401,
            "a bearer token is needed: send 'Authorization: Bearer TOKEN' with the content of the file 'token' "
            "in the daemon's profile directory",
            {"WWW-Authenticate": "Bearer"},
        )


async def _discard_body(request: Request) -> None:
    size = 0
    with trio.move_on_after(BODY_SECONDS) as scope:
        async with aclosing(request.stream()) as body:
            async for chunk in body:
                size += len(chunk)
                if size > MAX_BODY:
                    raise HTTPException(413, f"the request body is larger than {MAX_BODY} bytes; a verb needs none")
    if scope.cancelled_caught:
        raise HTTPException(408, f"the request body did not come within {BODY_SECONDS:.0f} seconds; a verb needs none")


_CODES = {
    400: "bad-request",
    401: "token-needed",
    404: "not-found",
    405: "wrong-method",
    408: "slow-request",
    413: "large-request",
    421: "wrong-host",
}
"""What a refusal of the endpoint itself is called; see docs/errors.md."""


def _error(
    status: int, message: str, headers: dict[str, str] | None = None, *, code: str | None = None
) -> JSONResponse:
    return JSONResponse({"error": message, "code": code or _CODES.get(status, "defect")}, status, headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = error.detail
    if error.status_code == 404 and message == "Not Found":
        message = f"there is nothing at {request.url.path[:80]!r}; try /api/status"
    if error.status_code == 405:
        message = _other_method(request)
    return _error(error.status_code, message, dict(error.headers or {}))


def _other_method(request: Request) -> str:
    path, verb = request.url.path[:80], request.path_params.get("verb")
    if verb is None and request.method in ("GET", "HEAD"):
        return f"{path!r} changes what the node does: send POST with the token"
    if verb is None:
        return f"{path!r} can only be read: send GET"
    if verb not in VERBS:
        return f"there is nothing at {path!r}; try GET /api/status, or POST for {', '.join(VERBS)}"
    return f"{verb!r} changes what the node does: send POST with the token, or say `learnae {verb}`"


async def _conflict(request: Request, error: Exception) -> Response:
    return _error(409, logs.explain(error), code=error.code if isinstance(error, LearnaeError) else None)
