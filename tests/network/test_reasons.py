"""Why a peer cannot be reached: real dials on loopback that fail in different ways."""

from __future__ import annotations

import errno
import os
import socket

import pytest
import trio

from learnae.errors import NetworkError
from learnae.peer import peer_id
from learnaed.network.reasons import dial_error
from tests.network.support import make, start, until

STRANGER = peer_id(bytes(32))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def why(nursery: trio.Nursery, port: int) -> tuple[str, str]:
    """The code and the text of the failure that a node reports of this address."""
    node = await start(nursery, "one", peers=(f"/ip4/127.0.0.1/tcp/{port}/p2p/{STRANGER}",))
    await until(lambda: any(dialled.failure for dialled in node.network.diagnosis().dials))
    (dialled,) = node.network.diagnosis().dials
    assert dialled.peer == STRANGER and dialled.source == "given" and dialled.failure is not None
    return dialled.failure.code, dialled.failure.text


async def test_nothing_listens_there(nursery: trio.Nursery) -> None:
    code, text = await why(nursery, free_port())
    assert code == "peer-refused" and "nothing listens" in text


async def test_another_node_answers_there(nursery: trio.Nursery) -> None:
    other = await start(nursery, "other")
    port = int(other.network.addresses[0].split("/")[4])
    code, text = await why(nursery, port)
    assert code == "wrong-peer-id" and "another node answers" in text


async def test_it_closes_at_once(nursery: trio.Nursery) -> None:
    async def close(stream: trio.SocketStream) -> None:
        await stream.aclose()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, close, [listener])
    assert (await why(nursery, listener.socket.getsockname()[1]))[0] == "peer-closed"


async def test_another_program_answers_there(nursery: trio.Nursery) -> None:
    async def speak(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(b"\x13/multistream/1.0.0\n\x03na\n\x03na\n")
        await trio.sleep_forever()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, speak, [listener])
    assert (await why(nursery, listener.socket.getsockname()[1]))[0] == "not-learnae"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH)), "no-route"),
        (OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH)), "no-route"),
        (TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)), "peer-timeout"),
        (trio.TooSlowError(), "peer-timeout"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name-unknown"),
        (ExceptionGroup("all attempts", [OSError("?"), ConnectionRefusedError(111, "refused")]), "peer-refused"),
        (NetworkError("the passphrase differs", code="wrong-secret"), "wrong-secret"),
        (ZeroDivisionError("odd"), "network"),
    ],
)
def test_causes_are_found_however_deep_they_lie(error: Exception, code: str) -> None:
    try:
        try:
            raise error
        except Exception as inner:
            raise ValueError("outer") from inner
    except ValueError as outer:
        found = dial_error(outer)
    assert found.code == code and str(found)


def test_a_chain_that_bites_its_tail_ends() -> None:
    one, two = ValueError(), KeyError()
    one.__cause__, two.__cause__ = two, one
    assert dial_error(one).code == "network"


def test_what_a_node_that_runs_nothing_reports() -> None:
    found = make("idle", listen=("/ip4/127.0.0.1/tcp/4117",)).network.diagnosis()
    assert found.wanted == ("/ip4/127.0.0.1/tcp/4117",) and found.bound == () and found.mdns is None


async def test_what_mdns_says_and_hears_is_counted(nursery: trio.Nursery) -> None:
    one = await start(nursery, "mdns-one", mdns=True)
    await start(nursery, "mdns-two", mdns=True)

    def counted() -> bool:
        mdns = one.network.diagnosis().mdns
        return mdns is not None and bool(mdns.announced and mdns.own_heard and mdns.others_heard)

    await until(counted)
    mdns = one.network.diagnosis().mdns
    assert mdns is not None and mdns.last_heard is not None
    assert (mdns.interfaces, mdns.error) == (("127.0.0.1",), None)
