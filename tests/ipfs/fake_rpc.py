"""An IPFS node's RPC API on loopback for tests: well behaved, unless a path is given a misdeed."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from learnae import car
from learnae.cid import to_text
from learnaed.ipfs import cids

Misdeed = Callable[["Request"], None]
PEER = "12D3KooWFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake"


class FakeNode(ThreadingHTTPServer):
    """What it holds, and what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.held: dict[bytes, bytes] = {}
        self.pins: dict[bytes, str] = {}
        self.dialled: list[str] = []
        self.asked: list[str] = []
        self.misdeeds: dict[str, Misdeed] = {}
        self.over = threading.Event()
        """Set at the end: what hangs may stop."""

    @property
    def api(self) -> str:
        return f"/ip4/127.0.0.1/tcp/{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Clients that give up are nothing to report."""


class Request(BaseHTTPRequestHandler):
    """One request to it."""

    protocol_version = "HTTP/1.1"
    server: FakeNode

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        path = parts.path.removeprefix("/api/v0")
        self.close_connection = True
        self.server.asked.append(path)
        self.query = parse_qs(parts.query)
        if path in self.server.misdeeds:
            self.server.misdeeds[path](self)
        else:
            getattr(self, "answer" + path.replace("/", "_"))()

    @property
    def cid(self) -> bytes:
        name = cids.from_text(self.query["arg"][0])
        assert name is not None
        return name

    def log_message(self, *_: object) -> None:
        pass

    def body(self) -> Iterator[bytes]:
        """The upload, as it comes."""
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def reply(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.start(status, {"Content-Length": str(len(body)), **headers})
        self.wfile.write(body)

    def start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def say(self, value: Any) -> None:
        self.reply(json.dumps(value).encode())

    def refuse(self, message: str) -> None:
        self.reply(json.dumps({"Message": message, "Code": 0, "Type": "error"}).encode(), 500)

    def answer_id(self) -> None:
        self.say({"ID": PEER, "AgentVersion": "fake/1", "Addresses": ["/ip4/127.0.0.1/tcp/1/p2p/" + PEER, 7, "\n"]})

    def answer_dag_import(self) -> None:
        _, blocks = car.read(io.BytesIO(content(b"".join(self.body()))))
        new = dict(blocks)
        self.server.held.update(new)
        if self.query["pin-roots"] == ["true"]:
            self.server.pins[next(iter(new))] = "recursive"
        self.say({"Root": {"Cid": {"/": to_text(next(iter(new)))}, "PinErrorMsg": ""}})

    def answer_pin_add(self) -> None:
        self.server.pins[self.cid] = "recursive" if self.query["recursive"] == ["true"] else "direct"
        self.say({"Pins": self.query["arg"]})

    def answer_pin_ls(self) -> None:
        if self.server.pins.get(self.cid) == self.query["type"][0]:
            self.say({"Keys": {self.query["arg"][0]: {"Type": self.query["type"][0]}}})
        else:
            self.refuse(f"path '{self.query['arg'][0]}' is not pinned")

    def answer_pin_rm(self) -> None:
        if self.server.pins.pop(self.cid, None):
            self.say({"Pins": self.query["arg"]})
        else:
            self.refuse("not pinned or pinned indirectly")

    def answer_block_get(self) -> None:
        self.reply(self.server.held[self.cid])

    def answer_dag_export(self) -> None:
        self.reply(b"".join(car.write(self.cid, self.server.held.items())))

    def answer_swarm_connect(self) -> None:
        self.server.dialled += self.query["arg"]
        self.say({"Strings": ["connect success"]})


def content(form: bytes) -> bytes:
    """The one file in a multipart form."""
    boundary, _, rest = form.partition(b"\r\n")
    _, _, rest = rest.partition(b"\r\n\r\n")
    return rest[: rest.rindex(b"\r\n" + boundary)]


@contextlib.contextmanager
def serving() -> Iterator[FakeNode]:
    """A node that runs."""
    with FakeNode() as node:
        thread = threading.Thread(target=node.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield node
        finally:
            node.over.set()
            node.shutdown()
            thread.join()


def never(request: Request) -> None:
    """Not answer."""
    request.server.over.wait()


def drip(request: Request) -> None:
    """Answer one byte after the other, for ever."""
    request.start(200, {})
    with contextlib.suppress(OSError):
        while not request.server.over.wait(0.01):
            request.wfile.write(b" ")


def flood(request: Request, status: int = 200, start: bytes = b"") -> None:
    """Answer without end."""
    request.start(status, {})
    with contextlib.suppress(OSError):
        request.wfile.write(start)
        while not request.server.over.is_set():
            request.wfile.write(b"{" * 65536)


def hang_up(request: Request) -> None:
    """Stop listening in the midst of an upload, and say nothing."""
    next(request.body())
    request.server.over.wait()


def break_off(request: Request) -> None:
    """Close the connection in the midst of an upload."""
    next(request.body())


def says(body: bytes, status: int = 200, **headers: str) -> Misdeed:
    def misdeed(request: Request) -> None:
        request.reply(body, status, **headers)

    return misdeed
