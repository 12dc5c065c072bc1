"""The OpenAPI document for people: the page at /api/docs, and docs/api.md; used by `pages` and by a test.

To write the latter: python -c "from learnaed.status.reference import markdown; print(markdown())" > docs/api.md
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from learnaed.status.openapi import description

_ANYWHERE: Final = ("401", "403", "421", "503")
"""Errors that any request may meet."""
_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 58rem; margin: 0 auto; padding: 1rem; }
code { font-size: 0.9em; background: #8882; padding: 0 0.2em; border-radius: 3px; overflow-wrap: anywhere; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #8886; } h3 { margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0; }
th, td { text-align: left; vertical-align: top; border-bottom: 1px solid #8884; padding: 0.3rem 0.6rem 0.3rem 0; }
"""


@functools.cache
def page() -> tuple[str, str]:
    """The page, and the Content-Security-Policy under which a browser shows it."""
    from markdown_it import MarkdownIt  # when somebody looks: most daemons are never asked

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown())
    head = f'<meta charset="utf-8"><title>learnaed API</title><style>{_STYLE}</style>'
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    style = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{style}'; frame-ancestors 'none'"
    return f'<!doctype html>\n<html lang="en"><head>{head}{view}</head>\n<body>\n{body}</body></html>\n', policy


def markdown() -> str:
    """All of it in Markdown."""
    return "\n".join(_lines(description())).rstrip()


def _lines(document: dict[str, Any]) -> Iterator[str]:
    schemas = document["components"]["schemas"]
    responses = document["components"]["responses"]
    yield "# The API\n"
    yield document["info"]["description"] + "\n"
    yield "An OpenAPI 3.1 document of all this is at `/api/openapi.json`; a daemon shows this page at `/api/docs`.\n"
    yield "```\ncd ~/.local/share/learnae/default"
    yield "curl -s http://127.0.0.1:4118/api/status"
    yield "curl -sN http://127.0.0.1:4118/api/events"
    yield 'curl -s -X POST -H "Authorization: Bearer $(cat token)" http://127.0.0.1:4118/api/pause?seconds=600\n```\n'
    yield "## Requests\n"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield from _request(f"{method.upper()} {path}", operation, responses)
    yield "## Errors\n"
    told = [(status, answer["description"]) for status, answer in responses.items()]
    yield from _table(("Status", "Meaning"), told)
    yield "## Answers\n"
    for name, schema in schemas.items():
        yield from _object(name, schema)


def _request(title: str, operation: dict[str, Any], responses: dict[str, Any]) -> Iterator[str]:
    yield f"### `{title}`\n"
    yield operation["summary"] + ("; needs the token." if "security" in operation else ".") + "\n"
    if "description" in operation:
        yield operation["description"] + "\n"
    given = [(f"`{p['name']}`", _type(p["schema"]), p["description"]) for p in operation.get("parameters", ())]
    if "requestBody" in operation:
        body = operation["requestBody"]
        given.append(("body", _content(body["content"]), body["description"]))
    if given:
        yield from _table(("Parameter", "Type", "Meaning"), given)
    found = []
    for status, answer in operation["responses"].items():
        if "$ref" not in answer:
            found.append((status, _content(answer["content"]), answer["description"]))
        elif status not in _ANYWHERE:
            found.append((status, "[Error](#errors)", responses[status]["description"]))
    yield from _table(("Status", "Answer", "Meaning"), found)


def _object(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    yield schema["description"] + "\n"
    fields = schema.get("properties", {})
    if fields:
        yield from _table(
            ("Field", "Type", "Meaning"), [(f"`{f}`", _type(s), s["description"]) for f, s in fields.items()]
        )
    for field, inner in fields.items():
        deep = inner.get("items", inner)
        if "properties" in deep and field not in ("settled", "newest"):
            yield from _object(f"`{field}` of {name.rpartition(' of ')[0] or name}", deep)


def _table(head: tuple[str, ...], cells: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in cells)
    yield ""


def _content(content: dict[str, Any]) -> str:
    return " or ".join(_type(about["schema"]) if kind.endswith("json") else kind for kind, about in content.items())


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"] if choice is not None) + _or_null(schema)
    kind = schema.get("type", "any")
    return (kind if isinstance(kind, str) else kind[0]) + _or_null(schema)


def _or_null(schema: dict[str, Any]) -> str:
    return " or null" if isinstance(schema.get("type"), list) else ""
