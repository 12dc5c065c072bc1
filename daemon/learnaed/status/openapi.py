"""The OpenAPI 3.1 document of the API, as a plain object; answered by `api`, and what `reference` is written from."""

from __future__ import annotations

import functools
from typing import Any, Final

from learnae import __version__
from learnaed.feed import Kind
from learnaed.status.schemas import EVENT_DATA, SCHEMAS, Schema, named, rows

_ABOUT = """\
What one daemon does, and how to steer it. It listens on this PC alone, at 127.0.0.1:4118 or the next free port (see \
`status.json` in the profile directory), and answers no request for another host name, and none of another site's page.

Reading needs no rights there. What changes anything needs `Authorization: Bearer TOKEN`, with the content of the file \
`token` in the profile directory, which is new at each start. `learnae dashboard` gives a browser a key of its own, \
which is used like the token. On an address of `--status-listen`, which other machines reach, everything needs one of \
them, or the cookie that came with a key.

Errors are objects: `error` says what happened, why, and what to do, `code` is a short name for it. Times are seconds, \
sizes bytes, accuracies fractions of 1."""

CID_PATTERN: Final = "^[a-zA-Z0-9_-]{1,200}$"
"""Of what may be a CID."""
_ERRORS: Final = {
    400: "A parameter or the body is not what it should be.",
    401: "The token is missing or wrong.",
    403: "Another site's page sends this request.",
    404: "There is nothing at this path.",
    408: "The body did not come in time.",
    409: "It cannot be done now.",
    413: "The body is too large.",
    421: "The Host header names another machine.",
    503: "Too many requests at a time, or too many event streams.",
}
_ANYWHERE = (401, 403, 421, 503)


def _answer(text: str, schema: Schema, kind: str = "application/json") -> Schema:
    return {"description": text, "content": {kind: {"schema": schema}}}


def _query(name: str, text: str, schema: Schema, *, required: bool = False, where: str = "query") -> Schema:
    return {"name": name, "in": where, "description": text, "required": required, "schema": schema}


def _operation(
    name: str, text: str, answers: dict[int, Schema], *parameters: Schema, errors: tuple[int, ...] = (), **more: Any
) -> Schema:
    summary, _, rest = text.partition("\n")
    refused = {str(status): {"$ref": f"#/components/responses/{status}"} for status in {*errors, *_ANYWHERE}}
    responses = refused | {str(status): answer for status, answer in answers.items()}
    about: Schema = {"operationId": name, "summary": summary, "responses": dict(sorted(responses.items()))}
    return (
        about
        | ({"description": rest} if rest else {})
        | ({"parameters": list(parameters)} if parameters else {})
        | more
    )


_TOKEN: Final[dict[str, Any]] = {"security": [{"token": []}]}
_CID = _query(
    "cid",
    "CID of a cut, as `learnae snapshots` shows it.",
    {"type": "string", "pattern": CID_PATTERN},
    required=True,
    where="path",
)


def _verb(name: str, text: str, *parameters: Schema, errors: tuple[int, ...] = ()) -> Schema:
    accepted = {202: _answer("It is done, or begun.", named("Accepted"))}
    errors = (408, 409, 413, *errors)
    return {"post": _operation(name, text, accepted, *parameters, errors=errors, **_TOKEN)}


def _read(name: str, text: str, answer: Schema, *parameters: Schema, errors: tuple[int, ...] = ()) -> Schema:
    return {"get": _operation(name, text, {200: answer}, *parameters, errors=errors)}


@functools.cache
def description() -> Schema:
    """The document. It is not to be changed."""
    seconds = _query(
        "seconds", "For how long; without it, until `resume`.", {"type": "number", "minimum": 1, "maximum": 31622400}
    )
    since = _query(
        "since",
        "Only the rows after this moment, in seconds since 1970.",
        {"type": "number", "minimum": 0, "maximum": 1e12},
    )
    limit = _query("limit", "Most rows.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100})
    path = _query("path", "Whole path of a file on this PC.", {"type": "string", "minLength": 1}, required=True)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "learnaed",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/api/status": _read("status", "The node's state", _answer("Everything about it.", named("Status"))),
            "/api/peers": _read(
                "peers", "The other nodes on the topic", _answer("One object each.", rows("Peers.", named("Peer")))
            ),
            "/api/updates": _read(
                "updates",
                "The updates that are held here\nThose above the pruned part of the log, newest first.",
                _answer("One object each.", rows("Updates.", named("Update"))),
                limit,
                errors=(400,),
            ),
            "/api/history": _read(
                "history",
                "How training went\nA row every 5 seconds for half an hour, every minute for half a day, every ten "
                "minutes for two weeks; in memory only, so from the daemon's start on.",
                _answer("Rows, oldest first.", named("History")),
                since,
                errors=(400,),
            ),
            "/api/events": {"get": _events()},
            "/api/snapshots": _read(
                "snapshots",
                "The cuts that are kept here",
                _answer("One object each, oldest first.", rows("Cuts.", named("Cut"))),
                errors=(409,),
            ),
            "/api/snapshots/{cid}/pin": {
                "post": _operation(
                    "pin",
                    "Keep a cut\nIf it is not here, it is fetched, which may take long.",
                    {200: _answer("The cut, once it is here.", named("Cut"))},
                    _CID,
                    errors=(400, 408, 409, 413),
                    **_TOKEN,
                )
            },
            "/api/snapshots/{cid}/unpin": {
                "post": _operation(
                    "unpin",
                    "Take that back\nBy the CID of the cut, or of its snapshot.",
                    {200: _answer("It is no longer kept.", named("Accepted"))},
                    _CID,
                    errors=(400, 408, 409, 413),
                    **_TOKEN,
                )
            },
            "/api/import": {
                "post": _operation(
                    "import",
                    "Take in a cut or a snapshot from a file",
                    {200: _answer("What the file held.", named("Imported"))},
                    path,
                    errors=(400, 408, 409, 413),
                    **_TOKEN,
                )
            },
            "/api/pause": _verb(
                "pause", "Stop training\nUpdates are still stored, merged and served.", seconds, errors=(400,)
            ),
            "/api/resume": _verb("resume", "Train again"),
            "/api/finish": _verb("finish", "End well\nComplete the round, publish it, let the swarm settle, and end."),
            "/api/stop": _verb("stop", "End now\nWithin seconds; the next start goes on from the state that is kept."),
            "/api/limits": {
                "get": _operation("limits", "The limits in force", {200: _answer("All of them.", named("Limits"))}),
                "put": _operation(
                    "set_limits",
                    "Change limits\nThose that are not named stay as they are.",
                    {200: _answer("All that are in force now.", named("Limits"))},
                    errors=(400, 408, 409, 413),
                    requestBody={
                        "description": "The limits to change, at most 4 KiB.",
                        "required": True,
                        "content": {"application/json": {"schema": named("Limits")}},
                    },
                    **_TOKEN,
                ),
            },
            "/api/ticket": {
                "post": _operation(
                    "ticket",
                    "A way in for a browser\nOpened once within a minute, `/?ticket=TICKET` leads to `/#key=KEY`. KEY "
                    "is as good as the token until the daemon ends.",
                    {200: _answer("The ticket.", named("Ticket"))},
                    errors=(408, 413),
                    **_TOKEN,
                )
            },
            "/api/session": _read(
                "session", "What the sender of a key may do", _answer("Whether it may steer.", named("Session"))
            ),
            "/api/openapi.json": _read("openapi", "This document", _answer("OpenAPI 3.1.", {"type": "object"})),
            "/api/docs": _read("docs", "This document to be read", _answer("A page.", {"type": "string"}, "text/html")),
            "/metrics": _read(
                "metrics",
                "Figures for Prometheus\nSee docs/metrics.md.",
                _answer("Text, format 0.0.4.", {"type": "string"}, "text/plain"),
            ),
            "/healthz": {
                "get": _operation(
                    "healthz",
                    "Whether the node does its work",
                    {
                        200: _answer("It does.", named("Health")),
                        503: _answer(
                            "It does not; or too many requests came at a time.",
                            {"anyOf": [named("Health"), named("Error")]},
                        ),
                    },
                )
            },
        },
        "components": {
            "schemas": SCHEMAS,
            "responses": {str(status): _answer(text, named("Error")) for status, text in _ERRORS.items()},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "The content of the file `token`."}
            },
        },
    }


def _events() -> Schema:
    kinds = "\n".join(f"- `{kind.value}`: {EVENT_DATA[kind]}" for kind in Kind)
    text = (
        "What happens\nA stream of server-sent events: `id` is the number of an event, `event` its kind, `data` a JSON "
        "object with its `time` and data. A comment comes after 15 seconds of silence. Where numbers are left out, the "
        "client was too slow, or away for more than a thousand events. At most 64 streams at a time. With `Accept: "
        f"application/json`, a list.\n\nThe data of each kind:\n\n{kinds}"
    )
    number = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
    answer = _answer("Events, oldest first.", rows("Events.", named("Event")))
    answer["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    wait = {"type": "number", "minimum": 0, "maximum": 60, "default": 0}
    return _operation(
        "events",
        text,
        {200: answer},
        _query("since", "Number of the last event that is known: only those after it.", number),
        _query("wait", "Of a list: so many seconds may pass until there is something in it.", wait),
        _query(
            "Last-Event-ID",
            "Of a stream: as `since`, and before it. Browsers send it by themselves.",
            {"type": "string"},
            where="header",
        ),
        errors=(400,),
    )
