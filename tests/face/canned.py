"""A daemon made of canned answers, on a real socket: for routes, versions and strangers that a real one lacks."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Canned:
    """What it answers, by path without the query, and what it was asked. Change `answers` at any time.

    An answer is something for JSON, bytes for an event stream that then ends, or a number for an error.
    """

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)
        self.asked: list[tuple[str, str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.url = ""


@contextmanager
def canned(home: Path, answers: Mapping[str, Any], profile: str = "default") -> Iterator[Canned]:
    """Serve on loopback, with the files of a running daemon, while the block runs."""
    source = Canned(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            source.asked.append((self.command, self.path, json.loads(body) if body else None))
            source.headers.append(dict(self.headers))
            found = source.answers.get(self.path.partition("?")[0], 404)
            if "wait=0" in self.path:
                found = source.answers.get("past", found)
            kind = "text/event-stream" if isinstance(found, bytes) else "application/json"
            self.send_response(found if isinstance(found, int) else 200)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(found if isinstance(found, bytes) else json.dumps(found).encode())

        do_GET = do_POST = do_PUT = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    directory = home / profile
    directory.mkdir(parents=True, exist_ok=True)
    with _serving(Handler) as url:
        source.url = url
        (directory / "token").write_text("secret")
        about = {"url": url, "pid": os.getpid(), "peer": "12D3KooWcanned", "topic": "test"}
        (directory / "status.json").write_text(json.dumps(about))
        try:
            yield source
        finally:
            (directory / "status.json").unlink(missing_ok=True)


@contextmanager
def _serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
