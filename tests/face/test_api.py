"""What the API answers beside the status: events, history, updates, limits, and the rights of browsers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio

from learnae.errors import ConfigError
from learnaed import dashboard
from learnaed.feed import Kind
from learnaed.history import Row
from learnaed.status import serve
from learnaed.status.reference import page
from tests.face.fakes import FakeSource, fake_status
from tests.face.serving import BEARER, TOKEN, served

LIST = {"Accept": "application/json"}


class Parts:
    """An answer to HTTP/1.0, which has no framing: the head, then the parts of the event stream."""

    def __init__(self, connection: trio.SocketStream) -> None:
        self._connection = connection
        self._text = b""
        self.head = ""

    async def next(self, mark: bytes = b"\n\n") -> str:
        with trio.fail_after(5):
            while mark not in self._text:
                more = await self._connection.receive_some()
                assert more
                self._text += more
        part, _, self._text = self._text.partition(mark)
        return part.decode()


@asynccontextmanager
async def stream(client: httpx.AsyncClient, path: str = "/api/events", **headers: str) -> AsyncIterator[Parts]:
    host, port = client.base_url.host, client.base_url.port
    assert port is not None
    lines = [f"GET {path} HTTP/1.0", f"Host: {host}:{port}", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    async with await trio.open_tcp_stream(host, port) as connection:
        await connection.send_all("\r\n".join(lines).encode())
        parts = Parts(connection)
        parts.head = (await parts.next(b"\r\n\r\n")).lower()
        assert parts.head.startswith("http/1.1 200")
        assert await parts.next() == "retry: 2000"
        yield parts


def told(part: str) -> tuple[int, str, dict[str, Any]]:
    fields = dict(line.split(": ", 1) for line in part.splitlines())
    return int(fields["id"]), fields["event"], json.loads(fields["data"])


async def test_events_as_a_stream() -> None:
    source = FakeSource()
    async with served(source) as client, stream(client) as parts:
        assert "content-type: text/event-stream; charset=utf-8" in parts.head
        assert "cache-control: no-store" in parts.head
        source.feed.post(Kind.MESSAGE, level="info", text="two\nlines: ä")
        (event,) = source.feed.since(0)
        assert told(await parts.next()) == (
            event.id,
            "message",
            {"time": event.time, "level": "info", "text": "two\nlines: ä"},
        )
        source.feed.post(Kind.STATE, state="paused", before="training")
        source.feed.post(Kind.STATE, state="training", before="paused")
        assert [told(await parts.next())[2]["state"] for _ in range(2)] == ["paused", "training"]
        assert (await client.get("/api/status")).json()["api"]["streams"] == 1


@pytest.mark.parametrize("how", ["header", "query", "both"])
async def test_a_stream_goes_on_where_it_broke_off(how: str) -> None:
    source = FakeSource()
    for number in range(3):
        source.feed.post(Kind.MESSAGE, level="info", text=str(number))
    first = source.feed.since(0)[0].id
    path = "/api/events" + ("" if how == "header" else f"?since={first if how == 'query' else first + 1}")
    headers = {} if how == "query" else {"Last-Event-ID": str(first)}
    async with served(source) as client, stream(client, path, **headers) as parts:
        assert [told(await parts.next())[2]["text"] for _ in range(2)] == ["1", "2"]


async def test_a_silent_stream_says_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learnaed.status.events.HEARTBEAT_SECONDS", 0.05)
    async with served(FakeSource()) as client, stream(client) as parts:
        assert [await parts.next() for _ in range(2)] == [": alive", ": alive"]


async def test_events_as_a_list() -> None:
    source = FakeSource()
    async with served(source) as client:
        assert (await client.get("/api/events", headers=LIST)).json() == []
        source.feed.post(Kind.CUT, index=5, cid="bafy")
        (event,) = source.feed.since(0)
        row = {"id": event.id, "time": event.time, "kind": "cut", "data": {"index": 5, "cid": "bafy"}}
        for query in ("", "?since=0&wait=0", f"?since={event.id - 1}&wait=9"):
            assert (await client.get(f"/api/events{query}", headers=LIST)).json() == [row]
        assert (await client.get(f"/api/events?since={event.id}", headers=LIST)).json() == []
        async with trio.open_nursery() as nursery:
            answers: list[Any] = []

            async def ask() -> None:
                answers.append((await client.get(f"/api/events?since={event.id}&wait=9", headers=LIST)).json())

            nursery.start_soon(ask)
            await trio.sleep(0.05)
            assert answers == []
            source.feed.post(Kind.CUT, index=6, cid="bafy")
        assert [row["data"]["index"] for row in answers[0]] == [6]


async def test_the_number_of_streams_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learnaed.status.events.MAX_STREAMS", 1)
    async with served(FakeSource()) as client:
        async with stream(client):
            refused = await client.get("/api/events")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        await trio.sleep(0.1)  # until the server has noticed
        async with stream(client):
            assert (await client.get("/api/status")).json()["api"]["streams"] == 1


async def test_history() -> None:
    source = FakeSource()
    for moment in (5.0, 10.0):
        source.history.add(Row.of(fake_status(), moment))
    async with served(source) as client:
        answer = (await client.get("/api/history")).json()
        assert (answer["every"], [row["time"] for row in answer["rows"]]) == (5.0, [5.0, 10.0])
        assert answer["rows"][0]["steps_per_second"] == 55.5
        assert len((await client.get("/api/history?since=5.0")).json()["rows"]) == 1


async def test_updates() -> None:
    async with served(FakeSource()) as client:
        assert [row["seq"] for row in (await client.get("/api/updates?limit=2")).json()] == [150, 149]
        assert len((await client.get("/api/updates")).json()) == 100


@pytest.mark.parametrize(
    "path",
    [
        *("/api/updates?limit=0", "/api/updates?limit=1001", "/api/updates?limit=x", "/api/history?since=-1"),
        *("/api/history?since=nan", "/api/events?since=1.5", "/api/events?wait=61", "/api/events?wait=inf"),
        *("/api/updates?limits=5", "/api/history?since=1&since=2"),
    ],
)
async def test_numbers_out_of_range(path: str) -> None:
    async with served(FakeSource()) as client:
        answer = await client.get(path, headers=LIST)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")


async def test_a_pause_may_end_by_itself() -> None:
    source = FakeSource()
    async with served(source) as client:
        for query in ("", "?seconds=600", "?seconds=1.5"):
            assert (await client.post(f"/api/pause{query}", headers=BEARER)).status_code == 202
        for query in (
            "?second=600",
            "?seconds=600&seconds=0",
            "?seconds=0",
            "?seconds=-1",
            "?seconds=x",
            "?seconds=1e300",
        ):
            assert (await client.post(f"/api/pause{query}", headers=BEARER)).status_code == 400
    assert source.pauses == [None, 600.0, 1.5]


async def test_limits() -> None:
    source = FakeSource()
    async with served(source) as client:
        assert (await client.get("/api/limits")).json() == {"upload": 1_000_000}
        assert (await client.put("/api/limits", json={"upload": 5})).status_code == 401
        answer = await client.put("/api/limits", json={"upload": 5}, headers=BEARER)
        assert (answer.status_code, answer.json()) == (200, {"upload": 5})
        answer = await client.put("/api/limits", json={"uplaod": 5}, headers=BEARER)
        assert (answer.status_code, "no limit 'uplaod'" in answer.json()["error"]) == (409, True)
        for body in (b"", b"[1]", b"{", b"[" * 4000):
            assert (await client.put("/api/limits", content=body, headers=BEARER)).status_code == 400
        assert (await client.put("/api/limits", content=b" " * 5000, headers=BEARER)).status_code == 413
        answer = await client.delete("/api/limits", headers=BEARER)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PUT")


async def test_the_dashboard_and_its_files() -> None:
    async with served(FakeSource()) as client:
        for path, name in (("/", "index.html"), ("/assets/api.js", "api.js")):
            answer = await client.get(path)
            assert (answer.status_code, answer.content) == (200, dashboard.assets()[name].content)
            assert answer.headers["content-security-policy"].startswith("default-src 'self'")
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            again = await client.get(path, headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        for path in ("/assets/none.js", "/assets/../assets.py", "/assets/%2e%2e/assets.py", "/assets/"):
            assert (await client.get(path)).status_code == 404


async def test_the_reference_needs_nothing_from_elsewhere() -> None:
    async with served(FakeSource()) as client:
        answer = await client.get("/api/docs")
    assert (answer.status_code, answer.headers["content-security-policy"]) == (200, page()[1])
    assert "default-src 'none'" in page()[1]
    assert "<td>" in answer.text and "/api/history" in answer.text
    assert not [word for word in ("src=", "@import", "url(", "<script", "<link") if word in answer.text]


async def test_a_browser_gets_a_key_for_a_ticket() -> None:
    source = FakeSource()
    async with served(source) as client:
        assert (await client.post("/api/ticket")).status_code == 401
        ticket = (await client.post("/api/ticket", headers=BEARER)).json()
        assert ticket["seconds"] == 60
        answer = await client.get("/", params={"ticket": ticket["ticket"]})
        path, _, key = answer.headers["location"].partition("#key=")
        assert (answer.status_code, path, answer.headers["cache-control"]) == (303, "/", "no-store")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and key not in cookie
        again = await client.get("/", params={"ticket": ticket["ticket"]})
        assert (again.status_code, "learnae dashboard" in again.json()["error"]) == (401, True)

        # The cookie is sent from here on, and steers nothing.
        assert client.cookies
        assert (await client.get("/api/session")).json() == {"steer": False}
        assert (await client.post("/api/pause")).status_code == 401
        bearer = {"Authorization": f"Bearer {key}"}
        assert (await client.get("/api/session", headers=bearer)).json() == {"steer": True}
        assert (await client.post("/api/pause", headers=bearer)).status_code == 202
    assert source.verbs == ["pause"]


async def test_pages_of_other_sites_are_refused() -> None:
    async with served(FakeSource()) as client:
        own = str(client.base_url).rstrip("/")
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
            {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
        ):
            answer = await client.get("/api/events", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "foreign-page")
            assert (await client.post("/api/pause", headers=BEARER | headers)).status_code == 403
        for headers in (
            {"Origin": own},
            {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
            {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        ):
            assert (await client.get("/api/status", headers=headers)).status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]


# --- for other machines


@asynccontextmanager
async def reached_from_afar() -> AsyncIterator[tuple[httpx.AsyncClient, FakeSource, int]]:
    """A client of the address for others, which here is one of loopback too."""
    source = FakeSource()
    with trio.socket.socket() as free:
        await free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with (
        served(source, remote=f"127.0.0.1:{port}"),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client, source, port


async def test_from_afar_everything_needs_the_token(caplog: pytest.LogCaptureFixture) -> None:
    async with reached_from_afar() as (client, source, _):
        for path in ("/", "/assets/api.js", "/api/status", "/api/events", "/metrics", "/healthz", "/api/docs", "/none"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (401, "token-needed")
        assert (await client.post("/api/stop")).status_code == 401
        assert (await client.get("/api/peers", headers=BEARER)).json() == source.peers()
        assert (await client.post("/api/pause", headers=BEARER)).status_code == 202
    assert "other machines reach the status endpoint" in caplog.text


async def test_from_afar_a_ticket_opens_the_dashboard() -> None:
    async with reached_from_afar() as (client, _, _):
        assert (await client.get("/?ticket=guess")).status_code == 401
        ticket = (await client.post("/api/ticket", headers=BEARER)).json()["ticket"]
        answer = await client.get("/", params={"ticket": ticket}, follow_redirects=True)
        assert (answer.status_code, answer.url.fragment[:4]) == (200, "key=")
        assert (await client.get("/api/status")).status_code == 200
        assert (await client.post("/api/pause")).status_code == 401
        key = answer.url.fragment.partition("=")[2]
        assert (await client.post("/api/pause", headers={"Authorization": f"Bearer {key}"})).status_code == 202


async def test_from_afar_only_names_of_this_pc_are_answered() -> None:
    async with reached_from_afar() as (client, _, port):
        for host in (f"127.0.0.1:{port}", "192.0.2.7:99", "[2001:db8::1]:4119", "localhost", "192.0.2.7"):
            assert (await client.get("/api/status", headers=BEARER | {"Host": host})).status_code == 200
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
            assert (await client.get("/api/status", headers=BEARER | {"Host": host})).status_code == 421


async def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(ConfigError, match="--status-listen"):
        await serve(FakeSource(), "127.0.0.1", 0, TOKEN, remote="192.0.2.7:4119")
