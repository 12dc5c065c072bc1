"""Stands before the API: foreign hosts and pages, missing rights, too many requests, and defects; built by `server`."""

from __future__ import annotations

import ipaddress
import math
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from learnaed import logs
from learnaed.status import pace
from learnaed.status.access import COOKIE, Access
from learnaed.status.pace import Pace

MAX_REQUESTS = 64
"""Requests that are answered at a time, event streams aside; one more is told to come again."""
MAX_BODY = 4096
"""Bytes. Only `PUT /api/limits` needs a body at all."""
_LARGE = f"the request body is larger than {MAX_BODY} bytes, or its length is not told"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_CODES = {
    400: "bad-request",
    401: "token-needed",
    403: "foreign-page",
    404: "not-found",
    405: "wrong-method",
    408: "slow-request",
    413: "large-request",
    421: "wrong-host",
    503: "too-many-requests",
}
_TOKEN_WANTED = (
    "a bearer token is needed: send 'Authorization: Bearer TOKEN' with the content of the file 'token' "
    "in the daemon's profile directory; for a browser, say `learnae dashboard`"
)

log = logs.get("status")


@dataclass(slots=True)
class Load:
    """What the guards of all addresses have on hand together."""

    requests: int = 0
    """All so far."""
    refused: int = 0
    """Those that a guard refused."""
    answering: int = 0
    pace: Pace = field(default_factory=lambda: Pace(*pace.REQUESTS))


Hosts = Callable[[str], bool]
"""Whether a Host header names this PC."""
Present = Callable[[tuple[str, int] | None], bool]


def local_hosts(port: int) -> Hosts:
    """For loopback: its names with this very port, which defeats DNS rebinding."""
    return frozenset(f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]")).__contains__


def remote_hosts() -> Hosts:
    """For an address that others reach: any IP address, and the names of this PC. The port may be a forwarded one."""
    own = socket.gethostname().lower()
    names = {own, f"{own.partition('.')[0]}.local", "localhost"}

    def known(host: str) -> bool:
        name, colon, port = host.rpartition(":")
        name = name if colon and port.isdecimal() else host
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return name in names
        return True

    return known


class Guard:
    """An ASGI application before another one.

    Args:
        app: the API.
        hosts: which Host headers are answered.
        access: who may do what.
        load: shared by all guards.
        present: whether a client, host and port, still waits for its answer.
        closed: reading needs rights too, except for the route that gives them.
    """

    def __init__(
        self, app: ASGIApp, hosts: Hosts, access: Access, load: Load, present: Present, *, closed: bool
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._access = access
        self._load = load
        self._present = present
        self._closed = closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or have the API answer."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        # What has a body does not wait: that would fill hypercorn's queue, and a client that breaks off then hangs it.
        # It has its connection closed instead, and connections wait for their turn.
        length = _length(scope)
        if length or await self._load.pace.turn(lambda: self._present(scope.get("client"))):
            await self._answer(scope, receive, send, length)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, length: float) -> None:
        self._load.requests += 1
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if length:
                    headers["Connection"] = "close"
            await send(message)

        refusal = self._refusal(scope, length)
        if refusal is not None:
            self._load.refused += 1
            await refusal(scope, receive, watched)
            return
        self._load.answering += 1
        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            log.error("[defect] status request failed", path=scope["path"], error=logs.explain(error), exc_info=error)
            if not started:
                await problem(500, "the daemon failed to answer; its log says why")(scope, receive, watched)
        finally:
            self._load.answering -= 1

    def _refusal(self, scope: Scope, length: float) -> JSONResponse | None:
        headers = Headers(scope=scope)
        hosts = [value.lower() for value in headers.getlist("host")]
        if len(hosts) != 1 or not self._hosts(hosts[0]):
            where = "by its IP address" if self._closed else "on the local machine only, at 127.0.0.1 and its port"
            return problem(421, f"this endpoint answers {where}; see `learnae dashboard --print`")
        if _foreign(headers, hosts[0]):
            return problem(403, "this request comes from another site's page, which has no business here")
        if length > MAX_BODY:
            return problem(413, _LARGE)
        may_read = not self._closed or self._access.may_read(headers.get("authorization"), _cookie(headers))
        if not may_read and not _redeems(scope):
            return unauthorised()
        if self._load.answering >= MAX_REQUESTS and not scope["path"].startswith("/api/events"):
            return problem(503, "too many requests at a time; come again", {"Retry-After": "1"})
        return None


def unauthorised() -> JSONResponse:
    """The answer to a request that changes something and has no token."""
    return problem(401, _TOKEN_WANTED, {"WWW-Authenticate": "Bearer"})


def problem(
    status: int, message: str, headers: dict[str, str] | None = None, *, code: str | None = None
) -> JSONResponse:
    """An answer that says what is wrong. `code`: its name in docs/errors.md, if not the usual one of the status."""
    return JSONResponse({"error": message, "code": code or _CODES.get(status, "defect")}, status, headers)


def _length(scope: Scope) -> float:
    """Bytes of the body."""
    headers = Headers(scope=scope)
    return math.inf if "transfer-encoding" in headers else int(headers.get("content-length", "0"))


def _foreign(headers: Headers, host: str) -> bool:
    """Whether a browser says that another site's page sends this. It could read nothing; it could keep us busy."""
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
        return True
    if headers.get("sec-fetch-mode") == "navigate":
        return False  # Somebody follows a link.
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin")


def _redeems(scope: Scope) -> bool:
    return scope["path"] == "/" and "ticket" in parse_qs(scope["query_string"].decode("latin-1"))


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found is not None else None
