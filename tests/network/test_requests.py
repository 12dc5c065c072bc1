from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from learnae.errors import NetworkError
from tests.network.support import Node, attacker, connect, start, until

ECHO = "/learnae/test-echo/1"


async def pair(nursery: trio.Nursery, handler: Callable[[bytes, str], Awaitable[bytes]]) -> tuple[Node, Node]:
    server, client = await start(nursery, "server"), await start(nursery, "client")
    server.network.serve(ECHO, handler, max_request=1_000_000)
    await connect(server, client)
    return server, client


async def echo(body: bytes, peer: str) -> bytes:
    return body + peer.encode()


@pytest.mark.parametrize("size", [0, 1, 700_000])
async def test_request_and_reply(nursery: trio.Nursery, size: int) -> None:
    server, client = await pair(nursery, echo)
    reply = await client.network.request(server.network.peer_id, ECHO, bytes(size), max_reply=1_000_000)
    assert reply == bytes(size) + client.network.peer_id.encode()
    assert server.network.statistics().counters.requests_served == 1
    assert client.network.statistics().counters.requests_sent == 1


async def test_many_at_once(nursery: trio.Nursery) -> None:
    server, client = await pair(nursery, echo)
    replies: list[bytes] = []

    async def ask(number: int) -> None:
        reply = await client.network.request(server.network.peer_id, ECHO, bytes([number]) * 100_000, max_reply=200_000)
        replies.append(reply[:1])

    async with trio.open_nursery() as asking:
        for number in range(8):
            asking.start_soon(ask, number)
    assert sorted(replies) == [bytes([number]) for number in range(8)]


async def test_every_failure_is_a_network_error_that_says_why(nursery: trio.Nursery) -> None:
    async def fail(body: bytes, peer: str) -> bytes:
        raise RuntimeError("the test's own")

    server, client = await pair(nursery, echo)
    server.network.serve("/learnae/test-fail/1", fail, max_request=10)
    peer = server.network.peer_id
    with pytest.raises(NetworkError, match="at most 10 are accepted"):
        await client.network.request(peer, ECHO, b"hello", max_reply=10)
    with pytest.raises(NetworkError, match="refused"):
        await client.network.request(peer, "/learnae/test-nothing/1", b"", max_reply=10)
    with pytest.raises(NetworkError, match="refused"):
        await client.network.request(peer, "/learnae/test-fail/1", b"", max_reply=10)
    with pytest.raises(NetworkError, match="refused"):
        await client.network.request(peer, ECHO, bytes(1_000_001), max_reply=10)
    with pytest.raises(NetworkError, match="not connected"):
        await client.network.request(client.network.peer_id, ECHO, b"", max_reply=10)
    assert server.dropped == {"handler-error": 1, "malformed-request": 1}
    assert client.network.statistics().counters.requests_failed == 5
    assert await client.network.request(peer, ECHO, b"still fine", max_reply=100)


async def test_a_request_cancelled_midway_leaves_the_connection_usable(nursery: trio.Nursery) -> None:
    server, client = await pair(nursery, echo)
    peer = server.network.peer_id
    for attempt in range(20):
        with trio.move_on_after(0.002 * attempt):
            await client.network.request(peer, ECHO, bytes(900_000), max_reply=1_000_000)
    assert len(await client.network.request(peer, ECHO, bytes(900_000), max_reply=1_000_000)) > 900_000
    assert client.events == [(peer, True)]


async def test_a_silent_server_costs_one_progress_timeout(nursery: trio.Nursery) -> None:
    async def sleep(body: bytes, peer: str) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    server, client = await pair(nursery, sleep)
    started = trio.current_time()
    with pytest.raises(NetworkError, match="too long"):
        await client.network.request(server.network.peer_id, ECHO, b"", max_reply=10, progress_timeout=0.3)
    assert trio.current_time() - started < 3.0
    assert client.network.connected() == {server.network.peer_id}


async def test_a_wrong_hash_from_a_server_is_refused(nursery: trio.Nursery) -> None:
    client = await start(nursery, "client")
    server = await attacker(nursery, client, "server")

    async def lie(stream: object) -> None:
        await stream.write(b"\0\0\0\5" + bytes(32) + b"hello")  # type: ignore[attr-defined]

    server.host.streams.set_stream_handler(ECHO, lie)  # type: ignore[arg-type]
    peer = str(server.host.swarm.get_peer_id())
    await until(lambda: peer in client.network.connected())
    with pytest.raises(NetworkError, match="hash"):
        await client.network.request(peer, ECHO, b"", max_reply=10)


async def test_a_reader_that_takes_nothing_loses_its_connection(nursery: trio.Nursery) -> None:
    client = await start(nursery, "client")
    server = await attacker(nursery, client, "server")

    async def ignore(stream: object) -> None:
        await trio.sleep_forever()

    server.host.streams.set_stream_handler(ECHO, ignore)  # type: ignore[arg-type]
    peer = str(server.host.swarm.get_peer_id())
    await until(lambda: peer in client.network.connected())
    with pytest.raises(NetworkError, match="took nothing"):
        await client.network.request(peer, ECHO, bytes(3_000_000), max_reply=10, progress_timeout=0.3)
    await until(lambda: not client.network.connected())
