"""What a browser shows: the dashboard with its files, and the description of the API; routes of `api`."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from learnaed import dashboard
from learnaed.status import reference
from learnaed.status.access import COOKIE, Access
from learnaed.status.openapi import description


def routes(access: Access) -> list[Route]:
    """The routes. A ticket in the address of the dashboard is exchanged for a key: see `access`."""

    async def index(request: Request) -> Response:
        given = request.query_params.get("ticket")
        if given is None:
            return _asset(request, "index.html")
        session = access.redeem(given)
        if session is None:
            raise HTTPException(401, "this link was used before, or is older than a minute: say `learnae dashboard`")
        answer = RedirectResponse(f"/#key={session.key}", 303)
        answer.set_cookie(COOKIE, session.cookie, httponly=True, samesite="strict")
        return answer

    async def asset(request: Request) -> Response:
        return _asset(request, request.path_params["path"])

    async def openapi(request: Request) -> Response:
        return JSONResponse(description())

    async def docs(request: Request) -> Response:
        html, policy = reference.page()
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})

    return [
        Route("/", index),
        Route("/assets/{path:path}", asset),
        Route("/api/openapi.json", openapi),
        Route("/api/docs", docs),
    ]


def _asset(request: Request, path: str) -> Response:
    """A file of the dashboard; 304 if the browser has it already."""
    found = dashboard.assets().get(path)
    if found is None:
        raise HTTPException(404)
    headers = {**dashboard.HEADERS, "ETag": found.etag}
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(None, 304, headers)
    return Response(found.content, 200, headers, found.media_type)
