"""Payloads: fetched from peers and kept as they come, handed to the trainer whole and a piece at a time."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from learnae import protocol
from learnae.cid import RAW, raw_cid
from learnae.coordinator import Coordinator, actions, events
from learnae.errors import StoreError
from learnae.ledger import Entry
from learnae.rules import FULL
from learnae.wire import MAX_BLOCK, MAX_PART, BlockReply, Part, pack
from learnaed import protocols
from learnaed.asker import Asker
from learnaed.blockstore import BlockStore
from learnaed.library import Library
from learnaed.network import Network
from learnaed.patience import Patience
from learnaed.payloads import Payloads
from learnaed.service import Service
from learnaed.snapshots import Shelf
from learnaed.store import Store
from learnaed.trainer.supervisor import Undeliverable, Unit
from tests.core.stored import AUTHOR, SWARM, cut, genesis, prune, store, update
from tests.daemon.fakes import FakeCoordinator, FakeNetwork, key

DIGEST = bytes(32)
BLOCKS = tuple(bytes([number]) * 200_000 for number in range(8))
PARTS = tuple(Part(raw_cid(block), len(block)) for block in BLOCKS)


class Node:
    """A node's store, and its end of the block protocol."""

    def __init__(self, name: str, directory: Path, others: dict[str, FakeNetwork]) -> None:
        self.key = key(name)
        self.store = Store(directory / f"{name}.sqlite", AUTHOR)
        self.network = FakeNetwork(name, others)
        self.said: list[str] = []
        self.peers: list[bytes] = []
        network = cast(Network, self.network)
        self.snapshots = BlockStore(directory / name)
        library = Library(self.store, Shelf(self.snapshots))
        Service(cast(Coordinator, FakeCoordinator(genesis())), self.store, library).register(network)
        patiently = Patience(self._notify)
        self.payloads = Payloads(self.store, patiently, Asker(network, Counter()), lambda: self.peers, self._notify)

    def _notify(self, level: str, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    others: dict[str, FakeNetwork] = {}
    one, other = Node("one", tmp_path, others), Node("other", tmp_path, others)
    yield one, other
    for node in (one, other):
        node.store.close()
        node.snapshots.close()


def requests(node: Node) -> int:
    return sum(node.network.requests.values())


async def sent(*units: Unit) -> list[protocol.TrainerMessage]:
    messages: list[protocol.TrainerMessage] = []

    async def send(message: protocol.TrainerMessage) -> None:
        await trio.lowlevel.checkpoint()
        messages.append(message)

    for unit in units:
        await unit(send)
    return messages


async def test_a_block_that_fits_into_no_reply_is_as_if_it_were_not_here(nodes: tuple[Node, Node]) -> None:
    """Bitswap gives it; what an update has, and manifests, this protocol gives, too."""
    here, there = nodes
    large, small = (there.snapshots.blocks.put(RAW, bytes(size)) for size in (MAX_BLOCK + 1, MAX_PART))
    asker = Asker(cast(Network, here.network), Counter())
    assert await asker.blocks(there.key, [large]) is None
    assert await asker.blocks(there.key, [small, large]) == (bytes(MAX_PART),)


# --- in


def wanted(there: Node, parts: Sequence[Part] = PARTS) -> actions.Fetch:
    return actions.Fetch(DIGEST, there.key, tuple(parts))


def fetched(there: Node, *, complete: bool = False, lied: bool = False) -> events.BlocksFetched:
    return events.BlocksFetched(DIGEST, there.key, complete, lied)


def held(node: Node, blocks: Sequence[bytes] = BLOCKS) -> list[bool]:
    return [node.store.piece(raw_cid(block)) == block for block in blocks]


async def test_a_payload_comes_in_a_few_blocks_at_a_time(nodes: tuple[Node, Node]) -> None:
    here, there = nodes
    there.store.carry_out([store(update(1, BLOCKS), BLOCKS)])
    writes = here.store.statistics().writes
    assert await here.payloads.fetch(wanted(there)) == fetched(there, complete=True)
    assert requests(here) == here.store.statistics().writes - writes == 3
    assert all(held(here))
    here.store.carry_out([store(update(1, BLOCKS))])
    assert here.store.block(PARTS[0].cid) == BLOCKS[0]


async def test_it_goes_on_from_what_came_before(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    here, there = nodes
    there.store.carry_out([store(update(1, BLOCKS[:4]), BLOCKS[:4])])
    assert await here.payloads.fetch(wanted(there)) == fetched(there)
    assert held(here) == [True] * 4 + [False] * 4
    there.store.carry_out([store(update(2, BLOCKS), BLOCKS)])
    before = requests(here)
    assert await here.payloads.fetch(wanted(there)) == fetched(there, complete=True)
    assert requests(here) - before == 2  # for the four that were missing
    assert await here.payloads.fetch(wanted(there)) == fetched(there, complete=True)
    assert requests(here) - before == 2  # for nothing any more


async def test_one_block_that_comes_twice_in_a_payload(nodes: tuple[Node, Node]) -> None:
    here, there = nodes
    there.store.carry_out([store(update(1, BLOCKS[:1]), BLOCKS[:1])])
    assert await here.payloads.fetch(wanted(there, [PARTS[0]] * 5)) == fetched(there, complete=True)


async def test_a_lie_is_passed_on_and_not_kept(nodes: tuple[Node, Node]) -> None:
    here, there = nodes

    async def lie(body: bytes, peer: str) -> bytes:
        return pack(BlockReply((BLOCKS[0], BLOCKS[7], BLOCKS[2])))

    there.network.handlers[protocols.BLOCK] = lie
    assert await here.payloads.fetch(wanted(there)) == fetched(there, lied=True)
    assert held(here) == [True, False, True] + [False] * 5


async def test_an_author_who_lies_about_sizes_gets_nobody_else_banned(nodes: tuple[Node, Node]) -> None:
    here, there = nodes
    there.store.carry_out([store(update(1, BLOCKS[:2]), BLOCKS[:2])])
    parts = [PARTS[0], Part(PARTS[1].cid, 5)]
    assert await here.payloads.fetch(wanted(there, parts)) == fetched(there)
    assert held(here, BLOCKS[:2]) == [True, False]
    here.store.put([BLOCKS[1]])
    before = requests(here)
    assert await here.payloads.fetch(wanted(there, parts)) == fetched(there)
    assert requests(here) == before


async def test_nobody_there(nodes: tuple[Node, Node]) -> None:
    here, there = nodes
    there.network.handlers.clear()
    assert await here.payloads.fetch(wanted(there)) == fetched(there)


async def test_blocks_that_went_with_another_update_are_missed_in_time(nodes: tuple[Node, Node]) -> None:
    here, there = nodes
    here.store.carry_out([store(update(1, BLOCKS[:1]), BLOCKS[:1]), cut(0)])
    result = await here.payloads.fetch(wanted(there, PARTS[:1]))
    assert result == fetched(there, complete=True)
    here.store.carry_out([prune(0, 1)])
    assert await here.payloads.confirmed(result) == fetched(there)


async def test_a_full_disk_is_waited_for(nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learnaed.patience.RETRY_SECONDS", 0.001)
    here, there = nodes
    there.store.carry_out([store(update(1, BLOCKS), BLOCKS)])
    put, full = here.store.put, [True, True]

    def fail(blocks: Iterable[bytes]) -> None:
        if full and full.pop():
            raise StoreError("the disk is full", code="disk-full")
        put(blocks)

    monkeypatch.setattr(here.store, "put", fail)
    assert await here.payloads.fetch(wanted(there)) == fetched(there, complete=True)
    assert all(held(here)) and requests(here) == 3
    assert here.said == ["[disk-full] the disk is full; waiting, and trying again", "the database can be written again"]


# --- on to the trainer


async def test_what_the_trainer_is_told(nodes: tuple[Node, Node]) -> None:
    here, _ = nodes
    small, large = update(1), update(2, BLOCKS[:2])
    here.store.carry_out([store(small), store(large, BLOCKS[:2])])
    one, two = Entry.of(small), Entry.of(large)
    payloads = here.payloads
    pieces = [protocol.Piece(block) for block in BLOCKS[:2]]
    assert await sent(payloads.add(SWARM, one, 7), payloads.add(SWARM, two, FULL), payloads.remove(SWARM, two)) == [
        protocol.Add(AUTHOR, 1, one.digest, 1, 5, 1.0, 7, 1),
        protocol.Piece(b"inline"),
        protocol.Add(AUTHOR, 2, two.digest, 2, 5, 1.0, FULL, 2),
        *pieces,
        protocol.Remove(AUTHOR, 2, two.digest, 5, 2),
        *pieces,
    ]
    assert await sent(payloads.cut(SWARM, 3, 99, (two, one))) == [
        protocol.TakeCut(3, 99, 2),
        protocol.Without(AUTHOR, 2, two.digest, 2),
        *pieces,
        protocol.Without(AUTHOR, 1, one.digest, 1),
        protocol.Piece(b"inline"),
    ]


async def test_a_dropped_update_can_still_be_subtracted(nodes: tuple[Node, Node]) -> None:
    here, _ = nodes
    entry = Entry.of(update(1))
    here.store.carry_out([store(update(1)), actions.Drop(SWARM, (entry,))])
    assert len(await sent(here.payloads.remove(SWARM, entry))) == 2


async def test_an_update_that_was_pruned_cannot_be_sent(nodes: tuple[Node, Node]) -> None:
    with pytest.raises(Undeliverable, match="pruned"):
        await sent(nodes[0].payloads.add(SWARM, Entry.of(update(1)), FULL))


async def test_a_snapshot_does_not_wait_for_a_damaged_block(
    nodes: tuple[Node, Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("learnaed.payloads.RETRY_SECONDS", 0.001)
    here, _ = nodes
    pieces = 0
    piece = here.store.piece

    def counted(cid: bytes) -> bytes | None:
        nonlocal pieces
        pieces += 1
        return piece(cid)

    monkeypatch.setattr(here.store, "piece", counted)
    change = store(update(1, BLOCKS[:2]), BLOCKS[:2])
    here.store.carry_out([change])
    with sqlite3.connect(tmp_path / "one.sqlite") as db:
        db.execute("UPDATE blocks SET data = ? WHERE cid = ?", (b"damage", PARTS[1].cid))
    db.close()
    here.payloads.give_up()  # This one was before.
    caught: list[Undeliverable] = []

    async def send() -> None:
        try:
            await sent(here.payloads.add(SWARM, change.entry, FULL))
        except Undeliverable as error:
            caught.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while pieces < 5:
            await trio.lowlevel.checkpoint()
        assert not caught
        here.payloads.give_up()
    assert "damaged" in str(caught[0])


async def test_a_damaged_block_comes_from_a_peer_again(
    nodes: tuple[Node, Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("learnaed.payloads.RETRY_SECONDS", 0.001)
    here, there = nodes
    change = store(update(1, BLOCKS[:2]), BLOCKS[:2])
    here.store.carry_out([change])
    with sqlite3.connect(tmp_path / "one.sqlite") as db:
        db.execute("UPDATE blocks SET data = ? WHERE cid = ?", (b"damage", PARTS[1].cid))
    db.close()
    done: list[Any] = []

    async def send() -> None:
        done.extend(await sent(here.payloads.add(SWARM, change.entry, FULL)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        here.peers.append(there.key)
        while not requests(here):
            await trio.lowlevel.checkpoint()
        assert not done
        there.store.carry_out([change])
    assert [piece.data for piece in done[1:]] == list(BLOCKS[:2])
    assert here.store.block(PARTS[1].cid) == BLOCKS[1]
    assert len([text for text in here.said if "damaged" in text]) == 1
