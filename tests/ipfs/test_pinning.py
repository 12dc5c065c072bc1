from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing

from learnae.errors import StoreError
from learnaed.ipfs import IpfsPinning, IpfsStatistics, Limits
from learnaed.ipfs.book import PinBook
from learnaed.ipfs.pinner import State
from tests.ipfs import fake_rpc
from tests.ipfs.dags import Dag, dag, noise
from tests.ipfs.fake_rpc import PEER, FakeNode, serving

RATE = 200
"""How many times faster the clock runs: the waits between retries are of minutes. Answers take real time."""
PATIENCE = 30.0 * RATE

FIRST, SECOND, THIRD = (dag(noise(300_000, seed)) for seed in range(3))


@dataclass
class Supply:
    """Several DAGs."""

    dags: dict[bytes, Dag] = field(default_factory=lambda: {tree.root: tree for tree in (FIRST, SECOND, THIRD)})

    def blocks(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        if root not in self.dags:
            raise StoreError("a block of the snapshot is missing")
        yield from self.dags[root].blocks(root)


@dataclass
class Watched:
    """A pinning that runs, and what it said."""

    pinning: IpfsPinning
    said: list[str]

    async def until(self, condition: Callable[[IpfsStatistics], object]) -> IpfsStatistics:
        """Wait for it by polling, as the status endpoint's users do."""
        with trio.fail_after(PATIENCE):
            while not condition(found := self.pinning.statistics()):  # noqa: ASYNC110  # threads change it
                await trio.sleep(PATIENCE / 10_000)
        return found

    async def settled(self) -> IpfsStatistics:
        return await self.until(lambda found: found.state is State.OK and not found.queue)


@pytest.fixture
def fast() -> trio.testing.MockClock:
    return trio.testing.MockClock(rate=RATE)


@pytest.fixture
def fake() -> Iterator[FakeNode]:
    with serving() as node:
        yield node


@asynccontextmanager
async def running(
    book: Path, address: str | None, supply: Supply | None = None, search: Callable[[], list[str]] = list
) -> AsyncIterator[Watched]:
    said: list[str] = []
    pinning = IpfsPinning(
        supply or Supply(),
        book,
        lambda level, text: said.append(f"{level}: {text}"),
        address,
        reachable=lambda: ["/ip4/127.0.0.1/tcp/4/p2p/us", "/ip4/127.0.0.1/tcp/5/p2p/us"],
        limits=Limits(quick=PATIENCE, slow=PATIENCE, stall=PATIENCE, upload=None),
        seed=1,
        search=search,
        wall=lambda: 1234.5,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pinning.run)
        yield Watched(pinning, said)
        nursery.cancel_scope.cancel()


async def test_the_latest_are_pinned_and_the_older_are_not(
    fake: FakeNode, tmp_path: Path, fast: trio.testing.MockClock
) -> None:
    fake.pins[THIRD.root] = "recursive"  # The user's own.
    async with running(tmp_path / "pins.json", fake.api) as watched:
        watched.pinning.want([FIRST.root, THIRD.root])
        found = await watched.settled()
        assert fake.pins == dict.fromkeys([FIRST.root, THIRD.root], "recursive")
        assert (found.pins, found.imports, found.node, found.agent) == (1, 1, PEER, "fake/1")
        assert found.bytes_sent > 300_000
        assert (found.last_success, found.address, found.why) == (1234.5, fake.api, "")
        assert fake.dialled == ["/ip4/127.0.0.1/tcp/4/p2p/us"]

        watched.pinning.want([SECOND.root])
        await watched.until(lambda found: found.imports == 2 and not found.queue)
        assert fake.pins == dict.fromkeys([SECOND.root, THIRD.root], "recursive")
        order = [path for path in fake.asked if path in ("/dag/import", "/pin/add", "/block/get", "/pin/rm")]
        assert order == ["/dag/import", "/pin/add", "/block/get"] * 2 + ["/pin/rm"]
    assert len(watched.said) == 1


async def test_a_restart_knows_its_pins(fake: FakeNode, tmp_path: Path, fast: trio.testing.MockClock) -> None:
    async with running(tmp_path / "pins.json", fake.api) as watched:
        watched.pinning.want([FIRST.root], direct=[SECOND.root])
        await watched.settled()
        assert fake.pins == {FIRST.root: "recursive", SECOND.root: "direct"}
        assert set(fake.held) == set(FIRST.held) | {SECOND.root}
    async with running(tmp_path / "pins.json", fake.api) as watched:
        watched.pinning.want([THIRD.root, FIRST.root])
        found = await watched.settled()
        assert fake.pins == dict.fromkeys([THIRD.root, FIRST.root], "recursive")
        assert found.imports == 1


async def test_a_node_that_breaks_off_is_tried_until_it_works(
    fake: FakeNode, tmp_path: Path, fast: trio.testing.MockClock
) -> None:
    fake.misdeeds["/dag/import"] = fake_rpc.break_off
    async with running(tmp_path / "pins.json", fake.api) as watched:
        watched.pinning.want([FIRST.root])
        await watched.until(lambda found: found.failures == 5)
        assert fake.pins == {}
        fake.misdeeds.clear()
        await watched.settled()
        assert fake.pins == {FIRST.root: "recursive"}
        assert [line.partition(":")[0] for line in watched.said] == ["info", "warning", "info"]
        assert "training goes on" in watched.said[1] and "back" in watched.said[2]


async def test_a_node_that_lies_about_its_pins(fake: FakeNode, tmp_path: Path, fast: trio.testing.MockClock) -> None:
    def forget(request: fake_rpc.Request) -> None:
        fake.pins.clear()
        request.say({"Pins": request.query["arg"]})

    fake.misdeeds["/pin/add"] = forget
    async with running(tmp_path / "pins.json", fake.api) as watched:
        watched.pinning.want([FIRST.root])
        found = await watched.until(lambda found: found.state is State.FAILING)
        assert "lists no such pin" in found.why


async def test_a_node_that_lost_what_it_pinned(fake: FakeNode, tmp_path: Path, fast: trio.testing.MockClock) -> None:
    fake.misdeeds["/block/get"] = fake_rpc.says(b"rot")
    async with running(tmp_path / "pins.json", fake.api) as watched:
        watched.pinning.want([FIRST.root])
        found = await watched.until(lambda found: found.state is State.FAILING)
        assert "hash" in found.why


async def test_a_block_of_ours_that_is_missing_is_said_and_leaves_the_node_alone(
    fake: FakeNode, tmp_path: Path, fast: trio.testing.MockClock
) -> None:
    supply = Supply()
    del supply.dags[FIRST.root]
    async with running(tmp_path / "pins.json", fake.api, supply) as watched:
        watched.pinning.want([FIRST.root, SECOND.root])
        found = await watched.until(lambda found: found.state is State.FAILING)
        assert "missing" in found.why
        await watched.until(lambda found: fake.pins == {SECOND.root: "recursive"})


async def test_none_is_found_and_then_one_is(fake: FakeNode, tmp_path: Path, fast: trio.testing.MockClock) -> None:
    there: list[str] = []
    async with running(tmp_path / "pins.json", None, search=lambda: there) as watched:
        watched.pinning.want([FIRST.root])
        await watched.until(lambda found: found.state is State.ABSENT)
        await trio.sleep(200)
        assert watched.pinning.statistics().state is State.ABSENT
        assert watched.pinning.node is None
        assert watched.said == []
        there.append(fake.api)
        await watched.settled()
        assert watched.pinning.node is not None
        assert fake.pins == {FIRST.root: "recursive"}


def test_the_book_lasts(tmp_path: Path) -> None:
    book = PinBook(tmp_path / "new" / "pins.json")
    book.add("node", FIRST.root, "recursive")
    book.add("node", SECOND.root, "direct")
    book.add("other", FIRST.root, "recursive")
    book.remove("node", FIRST.root)
    book.remove("other", FIRST.root)
    book.remove("other", FIRST.root)
    again = PinBook(tmp_path / "new" / "pins.json")
    assert again.of("node") == {SECOND.root: "direct"}
    assert again.of("other") == {}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1, "pins": {"n": {"zz": "direct"}}}', b"\xff", b"[" * 10_000],
)
def test_a_damaged_book_is_put_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pins.json").write_bytes(content)
    book = PinBook(tmp_path / "pins.json")
    assert book.of("n") == {}
    assert (tmp_path / "pins.json.damaged").read_bytes() == content
    book.add("n", FIRST.root, "recursive")
    assert PinBook(tmp_path / "pins.json").of("n") == {FIRST.root: "recursive"}


def test_a_book_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    book = PinBook(tmp_path / "pins.json")
    book._path = tmp_path / "file" / "pins.json"
    with pytest.raises(StoreError, match="Make room"):
        book.add("n", FIRST.root, "recursive")
    assert book.of("n") == {}
