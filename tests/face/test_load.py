"""Too many connections, requests, streams and bytes, and clients that are slow: refused or bounded, and over soon."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import trio
import trio.lowlevel
import trio.testing
from hypercorn.config import Config as HypercornConfig

from learnaed.feed import Kind
from learnaed.status.connections import MAX_CONNECTIONS
from learnaed.status.pace import Pace
from tests.face.fakes import FakeSource, fake_cut
from tests.face.serving import BEARER, served

MEGABYTE = 1 << 20


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process has both ends of a thousand connections."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("this system allows fewer than 4096 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def address(client: httpx.AsyncClient) -> tuple[str, int]:
    assert client.base_url.port is not None
    return client.base_url.host, client.base_url.port


def request(client: httpx.AsyncClient, path: str, length: int = 0, method: str = "GET", end: str = "\r\n") -> bytes:
    host, port = address(client)
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: {BEARER['Authorization']}\r\n"
    return f"{head}Content-Length: {length}\r\n{end}".encode()


async def answer(connection: trio.SocketStream) -> bytes:
    """All that comes before the end, or before the connection breaks."""
    found = b""
    try:
        async for chunk in connection:
            found += chunk
    except trio.BrokenResourceError:
        pass
    return found


async def test_a_thousand_connections(many_files: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as may be are held, the others are told so and closed; all the while those that are held are answered."""
    monkeypatch.setattr("learnaed.status.pace.CONNECTIONS", (1e4, 1e4))
    monkeypatch.setattr("learnaed.status.server._BACKLOG", 1024)
    answers: list[bytes] = []
    all_came = trio.Event()

    async def connect(client: httpx.AsyncClient) -> None:
        async with await trio.open_tcp_stream(*address(client)) as connection:
            await all_came.wait()
            with contextlib.suppress(trio.BrokenResourceError):  # turned away
                await connection.send_all(request(client, "/api/status", end="Connection: close\r\n\r\n"))
            answers.append((await answer(connection))[:12])

    async with served(FakeSource()) as client:

        async def figures() -> dict[str, int]:
            found: dict[str, int] = (await client.get("/api/status")).json()["api"]
            return found

        with trio.fail_after(40):
            async with trio.open_nursery() as nursery:
                assert (await figures())["connections"] == 1
                for _ in range(1000):
                    nursery.start_soon(connect, client)
                while (found := await figures())["connections"] + found["turned_away"] < 1001:
                    assert found["connections"] <= MAX_CONNECTIONS
                assert found["turned_away"] == 1001 - MAX_CONNECTIONS
                all_came.set()
        assert set(answers) <= {b"HTTP/1.1 200", b"HTTP/1.1 503", b""} and len(answers) == 1000
        assert answers.count(b"HTTP/1.1 200") >= MAX_CONNECTIONS // 4
        assert (await figures())["connections"] <= 2


async def test_a_flood_waits_its_turn(autojump_clock: trio.testing.MockClock) -> None:
    pace, began, turns = Pace(50, 10), trio.current_time(), 0

    async def again() -> None:
        nonlocal turns
        while True:
            await pace.turn()
            turns += 1

    with trio.move_on_at(began + 20):
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(again)
    assert turns == pytest.approx(10 + 20 * 50, abs=2)


@pytest.mark.parametrize("patched", ["CONNECTIONS", "REQUESTS"])
async def test_what_comes_too_fast_is_slowed_down(patched: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"learnaed.status.pace.{patched}", (20.0, 5.0))
    async with served(FakeSource()) as client:
        began = trio.current_time()
        for _ in range(15):
            answered = await client.get("/api/status", headers={"Connection": "close"})
            assert answered.status_code == 200
        assert trio.current_time() - began >= 10 / 20 * 0.9


async def test_clients_that_break_off_in_a_large_body_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when their turn would have come only later."""
    monkeypatch.setattr("learnaed.status.pace.REQUESTS", (5.0, 1.0))
    async with served(FakeSource()) as client:
        for _ in range(4):
            async with await trio.open_tcp_stream(*address(client)) as connection:
                with contextlib.suppress(trio.BrokenResourceError), trio.move_on_after(0.3):
                    await connection.send_all(request(client, "/api/pause", 10 * MEGABYTE, "POST"))
                    while True:
                        await connection.send_all(bytes(65536))
        with trio.fail_after(20):
            while (await client.get("/api/status")).json()["api"]["connections"] > 1:
                pass


@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
async def test_ten_megabytes(method: str) -> None:
    """They are not read: the client is told so, or finds the connection closed while it still sends."""
    source = FakeSource()
    path = {"POST": "/api/pause", "PUT": "/api/limits", "GET": "/api/status"}[method]
    async with served(source) as client, await trio.open_tcp_stream(*address(client)) as connection:
        sent = 0
        head = b""
        with trio.fail_after(10):
            await connection.send_all(request(client, path, 10 * MEGABYTE, method))
            try:
                while sent < 10 * MEGABYTE:
                    await connection.send_all(bytes(65536))
                    sent += 65536
            except trio.BrokenResourceError:
                pass
            head = (await answer(connection))[:12]
        assert head in (b"HTTP/1.1 413", b"HTTP/1.1 200" if method == "GET" else b"", b"")
        assert sent < 6 * MEGABYTE
        assert (await client.get("/api/status")).status_code == 200
    assert source.verbs == []


async def test_requests_that_take_long_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learnaed.status.guard.MAX_REQUESTS", 2)
    source, go = FakeSource(), trio.Event()

    async def slow(cid: str) -> dict[str, Any]:
        await go.wait()
        return fake_cut(1)

    monkeypatch.setattr(source, "pin", slow)
    async with served(source) as client, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(lambda: client.post("/api/snapshots/bafyrei1/pin", headers=BEARER))
        await trio.sleep(0.2)
        refused = await client.get("/api/status")
        assert (refused.status_code, refused.json()["code"]) == (503, "too-many-requests")
        go.set()
        await trio.sleep(0.2)
        assert (await client.get("/api/status")).status_code == 200


async def flooded(client: httpx.AsyncClient, source: FakeSource) -> trio.SocketStream:
    """A client of the event stream that reads nothing, and so much to read that the system will keep no more."""
    connection = await trio.open_tcp_stream(*address(client))
    connection.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    await connection.send_all(request(client, "/api/events"))
    with trio.fail_after(5):
        while not source.feed.statistics().readers:  # noqa: ASYNC110
            await trio.sleep(0.01)
    for _ in range(1000):
        source.feed.post(Kind.MESSAGE, level="info", text="x" * 4000)
    return connection


async def test_who_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learnaed.status.connections.SEND_SECONDS", 0.2)
    source = FakeSource()
    async with served(source) as client, await flooded(client, source):
        assert (await client.get("/api/status")).json()["api"]["streams"] == 1
        with trio.fail_after(5):
            while source.feed.statistics().readers:  # noqa: ASYNC110
                await trio.sleep(0.05)
        assert (await client.get("/api/status")).json()["api"]["streams"] == 0


async def test_a_client_that_hangs_does_not_keep_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    source = FakeSource()
    with trio.fail_after(8):
        async with served(source) as client, await flooded(client, source):
            await trio.sleep(0.5)


@pytest.mark.parametrize("sent", [b"", b"GET /api/status HTTP/1.1\r\nHost: 127"])
async def test_a_request_that_does_not_come(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HypercornConfig, "keep_alive_timeout", 0.2)
    async with served(FakeSource()) as client, await trio.open_tcp_stream(*address(client)) as connection:
        await connection.send_all(sent)
        with trio.fail_after(5):
            assert await answer(connection) == b""


async def test_what_is_no_http_ends_its_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: %s\r\n\r\n"
    async with served(FakeSource()) as client:
        for sent in (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100),
            request(client, "/", end="").replace(b"Content-Length: 0\r\n", b"") + upgrade % b"h2c",
            request(client, "/", end="") + upgrade % b"websocket",
            b"\x16\x03\x01\x02\x00\x01\x00",
        ):
            async with await trio.open_tcp_stream(*address(client)) as connection:
                await connection.send_all(sent)
                await connection.send_eof()
                with trio.fail_after(10):
                    await answer(connection)
        assert (await client.get("/api/status")).status_code == 200
