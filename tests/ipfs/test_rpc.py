from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from learnae import car
from learnae.cid import MAX_BLOCK, to_text
from learnae.errors import ConfigError, NetworkError, WireError
from learnaed.ipfs import IpfsNode, Limits, discover, nearby, parse_address
from learnaed.ipfs.address import DEFAULT, is_loopback
from learnaed.ipfs.rpc import Refused
from tests.ipfs import fake_rpc
from tests.ipfs.dags import cid, dag, noise
from tests.ipfs.fake_rpc import FakeNode, says, serving

TREE = dag(noise(600_000))
PATIENT = Limits(upload=None)
HASTY = Limits(quick=0.5, slow=0.5, stall=0.3, rate=1e9, upload=None)


@pytest.fixture
def fake() -> Iterator[FakeNode]:
    with serving() as node:
        yield node


def free_address() -> str:
    """Where nothing listens."""
    with FakeNode() as node:
        return node.api


async def test_a_dag_goes_there_and_comes_back(fake: FakeNode) -> None:
    node = IpfsNode(fake.api, PATIENT)
    assert (await node.identify()).agent == "fake/1"
    assert (await node.identify()).addresses == (f"/ip4/127.0.0.1/tcp/1/p2p/{fake_rpc.PEER}",)
    assert await node.pinned(TREE.root) is None
    assert await node.import_dag(TREE.root, TREE) > 600_000
    await node.pin(TREE.root)
    assert await node.pinned(TREE.root) == "recursive"
    assert await node.read(TREE.root) == TREE.held[TREE.root]
    back: dict[bytes, bytes] = {}
    assert await node.fetch(TREE.root, back.__setitem__, 700_000) == sum(map(len, back.values()))
    assert back == TREE.held == fake.held
    await node.unpin(TREE.root)
    await node.unpin(TREE.root)
    assert fake.pins == {}
    await node.connect_to("/ip4/127.0.0.1/tcp/4/p2p/somebody")
    assert fake.dialled == ["/ip4/127.0.0.1/tcp/4/p2p/somebody"]


async def test_one_block_alone(fake: FakeNode) -> None:
    node = IpfsNode(fake.api, PATIENT)
    await node.import_dag(TREE.root, TREE, recursive=False)
    await node.pin(TREE.root, recursive=False)
    assert fake.held == {TREE.root: TREE.held[TREE.root]}
    assert await node.pinned(TREE.root) == "direct"


async def test_an_upload_is_never_all_in_memory(fake: FakeNode) -> None:
    """The supply is asked for the next block only when what was before it has been sent."""
    taken = 0
    received = 0
    gap = 0

    class Endless:
        def blocks(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
            nonlocal taken, gap
            block = noise(256 * 1024)
            for _ in range(200):
                taken += len(block)
                gap = max(gap, taken - received)
                yield cid(0x55, block), block

    def count(request: fake_rpc.Request) -> None:
        nonlocal received
        for piece in request.body():
            received += len(piece)
        request.say({"Root": {"Cid": {"/": to_text(TREE.root)}}})

    fake.misdeeds["/dag/import"] = count
    await IpfsNode(fake.api, PATIENT).import_dag(TREE.root, Endless())
    assert received > taken == 200 * 256 * 1024
    assert gap < 20_000_000  # What the sockets' buffers hold, and a few pieces.


async def test_an_upload_is_no_faster_than_allowed(fake: FakeNode) -> None:
    begun = time.monotonic()
    await IpfsNode(fake.api, Limits(upload=2e6)).import_dag(TREE.root, TREE)
    assert time.monotonic() - begun > 0.25


async def test_nothing_listens_there() -> None:
    with pytest.raises(NetworkError, match="nothing listens there"):
        await IpfsNode(free_address(), PATIENT).identify()


CALLS = {
    "/id": lambda node: node.identify(),
    "/pin/ls": lambda node: node.pinned(TREE.root),
    "/pin/add": lambda node: node.pin(TREE.root),
    "/pin/rm": lambda node: node.unpin(TREE.root),
    "/dag/import": lambda node: node.import_dag(TREE.root, TREE),
    "/block/get": lambda node: node.read(TREE.root),
    "/dag/export": lambda node: node.fetch(TREE.root, lambda *_: None, 10**9),
    "/swarm/connect": lambda node: node.connect_to("/ip4/127.0.0.1/tcp/4"),
}


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize(
    "misdeed",
    [
        fake_rpc.never,
        fake_rpc.drip,
        fake_rpc.flood,
        lambda request: fake_rpc.flood(request, 500),
        says(b"\xff\xfe garbage"),
        says(b"[1, 2]"),
        says(b"[" * 100_000),
        says(b"", 500),
        says(b"gone", 404),
        says(b"", 302, Location="http://127.0.0.1:1/"),
        says(b"{}", Content_Encoding="gzip"),
        lambda request: None,
        lambda request: request.wfile.write(b"SSH-2.0\r\n"),
    ],
    ids=["never", "drip", "flood", "flood-500", "garbage", "list", "deep", "500", "404", "302", "gzip", "close", "ssh"],
)
async def test_a_node_that_misbehaves_is_an_error_in_time(fake: FakeNode, path: str, misdeed: fake_rpc.Misdeed) -> None:
    fake.misdeeds[path] = misdeed
    with trio.fail_after(20), pytest.raises((NetworkError, WireError)) as caught:
        await CALLS[path](IpfsNode(fake.api, HASTY))
    assert fake.api in str(caught.value) and path.strip("/") in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("misdeed", [fake_rpc.hang_up, fake_rpc.break_off])
async def test_an_upload_that_breaks_off(fake: FakeNode, misdeed: fake_rpc.Misdeed) -> None:
    big = dag(noise(30_000_000))  # More than the sockets' buffers hold.
    fake.misdeeds["/dag/import"] = misdeed
    with trio.fail_after(20), pytest.raises(NetworkError):
        await IpfsNode(fake.api, HASTY).import_dag(big.root, big)


async def test_what_a_refusal_says_is_passed_on_in_one_line(fake: FakeNode) -> None:
    fake.misdeeds["/pin/add"] = lambda request: request.refuse("no\nspace \x1b[31mleft" + "!" * 1000)
    with pytest.raises(Refused, match=r"HTTP status 500: no space  \[31mleft!!!") as caught:
        await IpfsNode(fake.api, PATIENT).pin(TREE.root)
    assert len(str(caught.value)) < 400


async def test_a_redirect_is_not_followed(fake: FakeNode) -> None:
    with serving() as other:
        url = f"http://127.0.0.1:{other.server_port}/api/v0/id"
        fake.misdeeds["/id"] = says(b"", 307, Location=url)
        with pytest.raises(Refused, match="307"):
            await IpfsNode(fake.api, PATIENT).identify()
        assert other.asked == []


async def test_the_proxy_of_the_environment_is_not_asked(fake: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert (await IpfsNode(fake.api, PATIENT).identify()).id == fake_rpc.PEER


OTHER = dag(b"something else")


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/id", json.dumps({"Hello": "world"}).encode(), "like an IPFS node"),
        ("/id", b"{}{}", "not JSON"),
        ("/id", b"{}\n{}", "2 answers"),
        ("/id", b'{"ID": "' + b"x" * 300_000 + b'"}', "more than 262144 bytes"),
        ("/pin/ls", json.dumps({"Keys": {to_text(OTHER.root): {}}}).encode(), "names others"),
        ("/pin/ls", b'{"Keys": []}', "names others"),
        ("/dag/import", json.dumps({"Root": {"Cid": {"/": to_text(OTHER.root)}}}).encode(), "something else"),
        ("/dag/import", b'{"Root": {"Cid": 7}}', "something else"),
        (
            "/dag/import",
            json.dumps({"Root": {"Cid": {"/": to_text(TREE.root)}, "PinErrorMsg": "a block is\nmissing"}}).encode(),
            "cannot pin what was sent: a block is missing",
        ),
        ("/block/get", b"another block", "hash"),
        ("/block/get", bytes(MAX_BLOCK + 1), "block of more than"),
        ("/dag/export", b"".join(car.write(TREE.root, [(TREE.root, b"forged")])), "hash"),
        ("/dag/export", b"".join(car.write(TREE.root, TREE.held.items()))[:-1], "cut off"),
        ("/dag/export", b"".join(car.write(TREE.root, [])), "does not have that DAG"),
        ("/dag/export", b"".join(car.write(OTHER.root, OTHER.held.items())), "does not have that DAG"),
    ],
)
async def test_lies_are_found_out(fake: FakeNode, path: str, body: bytes, message: str) -> None:
    fake.misdeeds[path] = says(body)
    with pytest.raises((NetworkError, WireError), match=message):
        await CALLS[path](IpfsNode(fake.api, PATIENT))


async def test_more_than_a_dag_can_have_is_not_taken(fake: FakeNode) -> None:
    fake.held = TREE.held
    kept: list[bytes] = []
    with pytest.raises(WireError, match="more than the 300000 bytes"):
        await IpfsNode(fake.api, PATIENT).fetch(TREE.root, lambda _, block: kept.append(block), 300_000)
    assert sum(map(len, kept)) <= 300_000


async def test_calls_that_hang_take_no_threads_from_others(fake: FakeNode) -> None:
    """Ten calls are given up while their threads still wait for the node; the eleventh is given up too, not refused."""
    fake.misdeeds["/id"] = fake_rpc.never
    node = IpfsNode(fake.api, Limits(quick=0.1, slow=30.0))
    before = trio.to_thread.current_default_thread_limiter().borrowed_tokens
    with trio.fail_after(20):
        for _ in range(10):
            with pytest.raises(NetworkError, match="too long"):
                await node.identify()
    assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == before


async def test_cancelling_ends_an_upload(fake: FakeNode) -> None:
    given: list[bytes] = []
    begun = trio.Event()
    token = trio.lowlevel.current_trio_token()

    class Slow:
        def blocks(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
            for key, block in TREE.held.items():
                trio.from_thread.run_sync(begun.set, trio_token=token)
                fake.over.wait(0.05)
                given.append(key)
                yield key, block

    async with trio.open_nursery() as nursery:
        nursery.start_soon(IpfsNode(fake.api, PATIENT).import_dag, TREE.root, Slow())
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert len(given) < len(TREE.held)


@pytest.mark.parametrize(
    "address",
    ["", "/ip4/127.0.0.1", "127.0.0.1:5001", "/ip4/127.0.0.1/udp/5001", "/unix/tmp/x", "/ip4/1.2.3.4/tcp/99999"],
)
def test_what_is_no_address_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(ConfigError, match=DEFAULT):
        IpfsNode(address)


def test_addresses() -> None:
    for address in (DEFAULT, "/ip6/::1/tcp/5001/http", "/dns/ipfs.lan/tcp/443/https", "/ip4/10.0.0.1/tcp/5001"):
        assert parse_address(address) == address
    assert [
        is_loopback(a) for a in (DEFAULT, "/ip6/::1/tcp/1/http", "/ip4/10.0.0.1/tcp/1", "/dns/localhost/tcp/1")
    ] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (b"/ip4/127.0.0.1/tcp/6001\n", ["/ip4/127.0.0.1/tcp/6001", DEFAULT]),
        (b"/ip4/127.0.0.1/tcp/5001", [DEFAULT]),
        (b"/ip4/203.0.113.1/tcp/5001", [DEFAULT]),
        (b"\xff" * 10_000, [DEFAULT]),
        (None, [DEFAULT]),
    ],
)
def test_a_node_is_looked_for_on_loopback_only(tmp_path: Path, written: bytes | None, found: list[str]) -> None:
    if written is not None:
        (tmp_path / "api").write_bytes(written)
    assert nearby({"IPFS_PATH": str(tmp_path)}) == found


async def test_discovery_takes_the_first_that_answers(fake: FakeNode) -> None:
    with serving() as odd:
        odd.misdeeds["/id"] = says(b"<html>I am a printer</html>")
        node = await discover([free_address(), odd.api, fake.api])
    assert node is not None and node.address == fake.api
    assert await discover([free_address()]) is None
