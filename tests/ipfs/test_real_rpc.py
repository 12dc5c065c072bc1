"""The RPC client and the pinning against real IPFS daemons.

js-ipfs is started here where it is installed (see `tests.ipfs.js_daemon`). With ``pytest -m kubo`` the same tests run
against the daemon, Kubo for instance, whose RPC API is at ``LEARNAE_IPFS_API``; what they pin there they unpin.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio

from learnae import car
from learnae.cid import to_text
from learnae.errors import NetworkError
from learnaed.ipfs import IpfsNode, IpfsPinning, Limits, cids, discover, nearby
from learnaed.ipfs.call import Call, new_limiter
from learnaed.ipfs.rpc import Rpc
from learnaed.network import Network, NetworkSettings
from tests.ipfs import js_daemon
from tests.ipfs.dags import LEAF, WIDTH, Dag, cid, dag, noise
from tests.ipfs.js_daemon import JsDaemon

LIMITS = Limits(quick=60.0, upload=None)


@pytest.fixture(scope="session")
def js(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JsDaemon]:
    if why := js_daemon.unavailable():
        pytest.skip(why)
    with js_daemon.running(tmp_path_factory.mktemp("js-ipfs")) as daemon:
        yield daemon


@pytest.fixture(params=["js", pytest.param("kubo", marks=pytest.mark.kubo)])
def address(request: pytest.FixtureRequest) -> str:
    if request.param == "js":
        daemon: JsDaemon = request.getfixturevalue("js")
        return daemon.api
    if not os.environ.get("LEARNAE_IPFS_API"):
        pytest.skip("LEARNAE_IPFS_API does not name an IPFS daemon's RPC API, /ip4/127.0.0.1/tcp/5001 for instance")
    return os.environ["LEARNAE_IPFS_API"]


class Supply(dict[bytes, Dag]):
    def __init__(self, *dags: Dag) -> None:
        super().__init__((tree.root, tree) for tree in dags)

    def blocks(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield from self[root].blocks(root)


async def there_and_back(address: str, content: bytes) -> None:
    tree = dag(content)
    node = IpfsNode(address, LIMITS)
    await node.import_dag(tree.root, tree)
    await node.pin(tree.root)
    try:
        assert await node.pinned(tree.root) == "recursive"
        assert await node.read(tree.root) == tree.held[tree.root]
        back: dict[bytes, bytes] = {}
        await node.fetch(tree.root, back.__setitem__, 2 * len(content) + 1000)
        assert back == tree.held
        assert b"".join(leaves(tree.root, back)) == content
    finally:
        await node.unpin(tree.root)
    assert await node.pinned(tree.root) is None


def leaves(root: bytes, held: dict[bytes, bytes]) -> Iterator[bytes]:
    """The file below a root, by the links in its blocks."""
    if root[1] == 0x55:
        yield held[root]
        return
    block = held[root]
    start = 0
    while (at := block.find(b"\x0a\x24\x01", start)) >= 0:  # A link's CID: field 1, 36 bytes, CIDv1.
        start = at + 2 + 36
        yield from leaves(block[at + 2 : start], held)


@pytest.mark.parametrize("size", [0, 1, LEAF, 3_000_000])
async def test_a_snapshot_is_pinned_and_read_back_byte_for_byte(address: str, size: int) -> None:
    await there_and_back(address, noise(size, seed=size))


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_snapshot_of_100_mb_is_pinned_and_read_back_byte_for_byte(address: str) -> None:
    await there_and_back(address, noise(100_000_000, seed=100))


async def test_who_is_there(address: str) -> None:
    identity = await IpfsNode(address, LIMITS).identify()
    assert identity.id.startswith(("12D3Koo", "Qm"))
    assert "/" in identity.agent


async def test_the_pinning_pins_new_snapshots_and_unpins_its_old_ones(address: str, tmp_path: Path) -> None:
    first, second, users = (dag(noise(700_000, seed)) for seed in (11, 12, 13))
    manifest = b"\xa1\x61s\xd8\x2a\x58\x25\x00" + second.root  # {"s": link}
    links = Dag(cid(0x71, manifest), {cid(0x71, manifest): manifest})
    node = IpfsNode(address, LIMITS)
    await node.import_dag(users.root, users)
    await node.pin(users.root)
    supply = Supply(first, second, users, links)
    said: list[str] = []
    pinning = IpfsPinning(supply, tmp_path / "pins", lambda *line: said.append(": ".join(line)), address, limits=LIMITS)

    async def settled() -> None:
        with trio.fail_after(60):
            while pinning.statistics().queue or pinning.statistics().state != "ok":  # noqa: ASYNC110
                await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pinning.run)
        pinning.want([first.root, users.root])
        await settled()
        assert [await node.pinned(tree.root) for tree in (first, second, users)] == ["recursive", None, "recursive"]
        pinning.want([second.root], direct=[links.root])
        await settled()
        found = [await node.pinned(tree.root) for tree in (first, second, users, links)]
        assert found == [None, "recursive", "recursive", "direct"]
        pinning.want([])
        await settled()
        found = [await node.pinned(tree.root) for tree in (first, second, users, links)]
        assert found == [None, None, "recursive", None]
        nursery.cancel_scope.cancel()
    await node.unpin(users.root)
    assert [line.partition(":")[0] for line in said] == ["info"], said


async def added(address: str, content: bytes) -> bytes | None:
    """The CID that the daemon itself gives a file."""
    rpc = Rpc(address, 60.0, 300.0)
    options = {
        "cid-version": "1",
        "raw-leaves": "true",
        "chunker": f"size-{LEAF}",
        "only-hash": "true",
        "pin": "false",
        "progress": "false",
    }
    pieces = (content[start : start + LEAF] for start in range(0, len(content), LEAF))
    answers = await Call(600.0, 1e5).run(
        lambda call: rpc.answer(call, "/add", options=options, upload=pieces), new_limiter()
    )
    return cids.from_text(answers[-1]["Hash"])


@pytest.mark.parametrize("size", [0, 1, 1000, LEAF - 1, LEAF, LEAF + 1, 2 * LEAF, 5_000_000])
async def test_our_cids_are_those_of_ipfs_add(address: str, size: int) -> None:
    content = noise(size, seed=size)
    assert await added(address, content) == dag(content).root


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [WIDTH * LEAF, WIDTH * LEAF + 1, 2 * WIDTH * LEAF + 1, 100_000_000])
async def test_our_cids_are_those_of_ipfs_add_for_large_files(address: str, size: int) -> None:
    content = noise(size, seed=size)
    assert await added(address, content) == dag(content).root


async def test_an_export_of_the_daemon_is_a_car_file(address: str) -> None:
    tree = dag(noise(600_000, seed=21))
    node = IpfsNode(address, LIMITS)
    await node.import_dag(tree.root, tree)
    rpc = Rpc(address, 60.0, 60.0)

    def export(call: Call) -> bytes:
        with closing(rpc.stream(call, "/dag/export", to_text(tree.root))) as pieces:
            return b"".join(pieces)

    data = await Call(60.0, 1e5).run(export, new_limiter())
    await node.unpin(tree.root)
    # To the byte, but for the order of the blocks: what we write is what IPFS nodes write.
    assert len(data) == len(b"".join(car.write(tree.root, tree.held.items())))
    assert data.startswith(next(car.write(tree.root, [])))


async def test_a_dag_that_it_does_not_have_is_an_error(address: str) -> None:
    hasty = IpfsNode(address, Limits(quick=3.0, slow=3.0, rate=1e9))
    missing = dag(b"nobody has this, " + noise(32, seed=31)).root
    with pytest.raises(NetworkError):
        await hasty.fetch(missing, lambda *_: None, 1000)
    with pytest.raises(NetworkError):
        await hasty.read(missing, seconds=3.0)


async def test_an_address_where_nobody_is_cannot_be_dialled(address: str) -> None:
    with pytest.raises(NetworkError):
        await IpfsNode(address, LIMITS).connect_to(
            "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWGjKBkYbQfCXpjrU5sfPkhZHbEr4GmgsKj5q4jHBSWzBT"
        )


@pytest.mark.kubo
async def test_the_daemon_dials_us(address: str) -> None:
    if (await IpfsNode(address, LIMITS).identify()).agent.startswith("js-ipfs"):
        pytest.skip("js-ipfs multiplexes with mplex alone, which learnaed does not speak")
    met: list[str] = []
    network = Network(
        bytes(range(32)),
        NetworkSettings(listen=("/ip4/127.0.0.1/tcp/0",), mdns=False),
        on_peer=lambda peer, up: met.append(peer) if up else None,
    )
    node = IpfsNode(address, LIMITS)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        await node.connect_to(network.addresses[0])
        name = (await node.identify()).id
        with trio.fail_after(20):
            while name not in met:  # noqa: ASYNC110
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()


async def test_a_daemon_is_found_by_the_file_that_it_writes(js: JsDaemon) -> None:
    places = nearby({"IPFS_PATH": str(js.repo)})
    found = await discover(places[:1], seconds=20.0)
    assert found is not None and found.address == js.api
