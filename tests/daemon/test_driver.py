"""The driver: the order of what is done, what the trainer says and is told, fetches, full and damaged disks."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import trio

from learnae import protocol
from learnae.blocks import Blocks
from learnae.cid import digest_of, raw_cid
from learnae.coordinator import Coordinator, actions, events
from learnae.errors import StoreError
from learnae.genesis import Genesis
from learnae.layout import Layout, TensorSpec
from learnae.ledger import Applied, Entry, Kept
from learnae.rules import FULL
from learnae.snapshot import header, write
from learnae.unixfs import Child
from learnaed import patience, protocols
from learnaed.blockstore import BlockStore
from learnaed.driver import Driver
from learnaed.library import Library
from learnaed.network import Network
from learnaed.service import Service
from learnaed.snapshots import Shelf
from learnaed.store import DamagedStore, Store
from learnaed.trainer.supervisor import Item, Send, Trainer, Unit
from tests.core.stored import AUTHOR, cut, genesis, manifest, store, update
from tests.daemon.fakes import Donor, FakeCoordinator, FakeNetwork, FakePeer, key

SWARM = genesis().swarm_id("t")


LARGE = replace(genesis(), layout=Layout((TensorSpec("weight", (500_000,), "float32"),)))


def big(rig: Rig, seed: int) -> Child:
    """A snapshot of the large model, of eight leaves that differ."""
    weights = b"".join(bytes([seed, number]) * 100_000 for number in range(10))
    return write(rig.blocks, [header(LARGE.layout, LARGE.exponents), weights])


def lying(rig: Rig) -> set[bytes]:
    """The digests of all blocks there."""
    return {stored.digest for stored in rig.blocks}


def path_of(rig: Rig, leaf: bytes) -> Path:
    name = digest_of(leaf).hex()
    return rig.blocks.directory / name[:2] / name


class Hanging:
    """A donor that gives some blocks, and then hangs."""

    def __init__(self, source: Donor | None, left: int) -> None:
        assert source is not None
        self._source = source
        self.left = left
        self.hangs = trio.Event()

    async def get(self, cid: bytes) -> bytes | None:
        if not self.left:
            self.hangs.set()
            await trio.sleep_forever()
        self.left -= 1
        return await self._source.get(cid)


class FakeTrainer:
    def __init__(self, log: list[object]) -> None:
        self.log = log
        self.life = 1
        self.units: list[Unit] = []

    def begin(self, life: int) -> None:
        self.log.append(f"begin {life}")

    def tell(self, item: Item) -> None:
        if callable(item):
            self.units.append(item)
        self.log.append("unit" if callable(item) else item)

    def forget_units(self) -> None:
        self.log.append("forget units")


class Rig:
    """A driver with a store, a trainer that notes what it is told, and one other node to ask."""

    def __init__(self, directory: Path, others: dict[str, FakeNetwork], name: str = "here") -> None:
        self.key = key(name)
        self.log: list[object] = []
        """What the trainer was told and the user was shown, and what was stored and published, in order."""
        self.coordinator = FakeCoordinator(genesis())
        self.store = Store(directory / f"{name}.sqlite", AUTHOR)
        self.snapshots = BlockStore(directory / name)
        self.blocks: Blocks = self.snapshots.blocks
        """Where its trainer writes."""
        self.shelf = Shelf(self.snapshots)
        self.shelf.begin_writing()
        self.network = FakeNetwork(name, others)
        library = Library(self.store, self.shelf)
        Service(cast(Coordinator, self.coordinator), self.store, library).register(cast(Network, self.network))
        self.network.serve_blocks(library)
        self.driver = Driver(
            cast(Coordinator, self.coordinator),
            self.store,
            self.shelf,
            cast(Network, self.network),
            notify=lambda level, text: self.log.append((level, text)),
        )
        self.trainer = FakeTrainer(self.log)
        self.driver.trainer = cast(Trainer, self.trainer)

    def keep(self, *snapshots: Child) -> None:
        """The trainer has started, and these were written before."""
        assert all(self.shelf.add(snapshot.cid) for snapshot in snapshots)
        self.shelf.end_writing()

    def join(self, swarm: Genesis) -> None:
        """Fetch snapshots of this one from now on."""
        self.on(events.Listening, actions.JoinSwarm(SWARM, swarm))
        self.driver.post(events.Listening(()))

    def note_stores(self, fail: Callable[[], None] = lambda: None) -> None:
        """Log what is stored, too."""
        original = self.store.carry_out

        def carry_out(changes: list[actions.Action]) -> None:
            fail()
            original(changes)  # type: ignore[arg-type]
            self.log.extend(type(change).__name__ for change in changes)

        self.store.carry_out = carry_out  # type: ignore[method-assign,assignment]

    def on(self, event: type, *wanted: actions.Action) -> None:
        self.coordinator.wanted[event] = list(wanted)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.driver.run)
            yield
            nursery.cancel_scope.cancel()

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(20):
            while not condition():
                await trio.lowlevel.checkpoint()

    async def heard(self, kind: type, count: int = 1) -> list[events.Event]:
        await self.until(lambda: len(self.coordinator.said(kind)) >= count)
        return self.coordinator.said(kind)


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[tuple[Rig, Rig]]:
    others: dict[str, FakeNetwork] = {}
    made = Rig(tmp_path, others), Rig(tmp_path, others, "there")
    yield made
    for rig in made:
        rig.store.close()
        rig.snapshots.close()


@pytest.fixture
def rig(rigs: tuple[Rig, Rig]) -> Rig:
    return rigs[0]


def hello(rig: Rig, applied: list[list[object]] | None = None) -> protocol.Hello:
    wire = genesis().to_wire()
    return protocol.Hello(wire, b"base", bytes(32), applied or [], 3, 16, 0, 5)


# --- order


async def test_what_is_kept_is_durable_before_anything_else_is_done(rig: Rig) -> None:
    entry = Entry.of(update(1))
    topic = protocols.updates_topic("t", genesis().layout.fingerprint)
    rig.note_stores()
    rig.on(events.Pause, actions.JoinSwarm(SWARM, genesis()))
    rig.on(
        events.Finish,
        actions.Apply(entry, FULL),
        actions.Accept(entry, 9),
        actions.PublishUpdate(b"envelope"),
        store(update(1), swarm=SWARM),
        replace(cut(0), swarm=SWARM),
    )
    async with rig.running():
        rig.driver.post(events.Pause())
        rig.driver.post(events.Finish())
        await rig.until(lambda: rig.network.published)
    accepted = protocol.Accepted(AUTHOR, 1, entry.digest, 1, 9)
    assert rig.log == ["Store", "KeepCut", "unit", accepted]
    assert rig.network.published == [(topic, b"envelope")]
    assert set(rig.network.subscribed) == {topic, protocols.peers_topic("t")}


async def test_events_that_wait_share_a_transaction(rig: Rig) -> None:
    seqs = range(1, 21)
    rig.note_stores()

    def follow(event: events.Event) -> list[actions.Action]:
        if not isinstance(event, events.PayloadVoid):
            return []
        signed = update(event.update[1])
        told = actions.Apply(Entry.of(signed), FULL), actions.Notice("info", str(signed.message.seq))
        return [store(signed, swarm=SWARM), *told]

    rig.coordinator.follow = follow
    for seq in seqs:
        rig.driver.post(events.PayloadVoid((AUTHOR, seq)))
    writes = rig.store.statistics().writes
    async with rig.running():
        await rig.until(lambda: len(rig.log) >= 60)
    assert rig.log == ["Store"] * 20 + [line for seq in seqs for line in ("unit", ("info", str(seq)))]
    assert rig.store.statistics().writes == writes + 1
    assert rig.coordinator.said(events.PayloadVoid) == [events.PayloadVoid((AUTHOR, seq)) for seq in seqs]
    assert len(rig.store.kept(SWARM).entries) == 20


async def test_a_transaction_is_bounded(rig: Rig) -> None:
    rig.note_stores()
    rig.on(events.Pause, replace(cut(0), swarm=SWARM), actions.Notice("info", "done"))
    for _ in range(100):
        rig.driver.post(events.Pause())
    async with rig.running():
        await rig.until(lambda: len(rig.log) >= 200)
    done = ("info", "done")
    assert rig.log == ["KeepCut"] * 64 + [done] * 64 + ["KeepCut"] * 36 + [done] * 36


@pytest.mark.parametrize(
    ("last", "together"),
    [
        (events.TrainerLost(), [1, 1, 1]),
        (events.RoundFinished((), 1, 1.0, 1.0, None, 0, 0), [2, 1]),
        (events.Finish(), [3]),
    ],
)
async def test_what_ends_a_batch(rig: Rig, last: events.Event, together: list[int]) -> None:
    stored: list[int] = []
    rig.store.carry_out = lambda changes: stored.append(len(changes))  # type: ignore[method-assign]
    for event in (events.Pause(), last, events.Resume()):
        rig.on(type(event), cut(0))
        rig.driver.post(event)
    async with rig.running():
        await rig.until(lambda: sum(stored) >= 3)
    assert stored == together


async def test_nothing_is_told_to_a_trainer_before_its_begin_or_after(rig: Rig) -> None:
    """What was said before a trainer came is not for it, however many events wait."""
    rig.on(events.Pause, actions.Notice("info", "before"))
    rig.on(events.Resume, actions.Notice("info", "after"))
    rig.driver.post(events.Pause())
    await rig.driver.hear_trainer(hello(rig))
    rig.driver.post(events.Resume())
    async with rig.running():
        await rig.until(lambda: len(rig.log) >= 3)
    assert rig.log == [("info", "before"), "begin 1", ("info", "after")]


async def test_a_full_disk_is_waited_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "RETRY_SECONDS", 0.001)
    left = [3]

    def fail() -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise StoreError("the disk is full", code="disk-full")

    rig.note_stores(fail)
    rig.on(events.Finish, store(update(1), swarm=SWARM), actions.PublishHeartbeat(b"beat"))
    async with rig.running():
        rig.driver.post(events.Finish())
        await rig.until(lambda: rig.network.published)
    assert rig.log == [
        ("error", "[disk-full] the disk is full; waiting, and trying again"),
        "Store",
        ("info", "the database can be written again"),
    ]
    assert rig.driver.statistics().store_failures == 3


async def test_a_damaged_database_ends_the_driver(rig: Rig) -> None:
    def fail() -> None:
        raise DamagedStore(Path("db"), "malformed")

    rig.note_stores(fail)
    rig.on(events.Finish, store(update(1), swarm=SWARM))
    rig.driver.post(events.Finish())
    with pytest.RaisesGroup(DamagedStore):
        await rig.driver.run()


# --- what the trainer says


async def test_a_ready_trainer_comes_with_what_is_kept(rig: Rig) -> None:
    rig.store.carry_out([store(update(1), swarm=SWARM)])
    first, later = write(rig.blocks, [b"weights"]), write(rig.blocks, [b"later"])
    assert first.cid == genesis().weights and rig.shelf.add(later.cid)
    await rig.driver.hear_trainer(hello(rig, [[AUTHOR, 1, b"digest", 4, 5]]))
    async with rig.running():
        (ready,) = await rig.heard(events.TrainerReady)
    assert ready == events.TrainerReady(
        genesis(),
        b"base",
        bytes(32),
        (Applied(AUTHOR, 1, b"digest", 4, 5),),
        3,
        Kept(entries=(Entry.of(update(1)),), own_seq=1, snapshots=frozenset({first.cid, later.cid})),
    )
    assert rig.log == ["begin 1"]
    assert rig.driver.rounds == 5


async def test_what_is_kept_is_looked_up_when_all_that_came_before_the_trainer_is_done(rig: Rig) -> None:
    """Else it would be told to go on from a snapshot that is deleted, or to subtract what is pruned."""
    kept, old = write(rig.blocks, [b"kept"]), write(rig.blocks, [b"old"])
    rig.keep(kept, old)
    one, two = update(1), update(7)
    prune = actions.Prune(SWARM, manifest(0).id, 5, 1, (kept.cid,))
    rig.on(events.Finish, *(store(signed, swarm=SWARM) for signed in (one, two)))
    rig.on(events.Pause, actions.Drop(SWARM, (Entry.of(one), Entry.of(two))), replace(cut(0), swarm=SWARM), prune)
    rig.driver.post(events.Finish())
    rig.driver.post(events.Pause())
    await rig.driver.hear_trainer(hello(rig))
    rig.driver.post(events.Finish())
    async with rig.running():
        (ready,) = await rig.heard(events.TrainerReady)
    assert isinstance(ready, events.TrainerReady)
    assert ready.kept.dropped == (Entry.of(two),)
    assert ready.kept.entries == ()
    assert ready.kept.snapshots == frozenset({kept.cid})
    rig.snapshots.collect()
    assert {digest_of(kept.cid)} <= lying(rig) <= {digest_of(kept.cid), digest_of(manifest(0).cid)}


async def test_a_trainer_begins_as_the_one_that_said_hello(rig: Rig) -> None:
    await rig.driver.hear_trainer(hello(rig))
    rig.shelf.untidy = False
    rig.driver.lost_trainer()
    assert rig.shelf.untidy  # what it was writing is deleted at the next look
    assert rig.driver.trainer is not None
    rig.driver.trainer.life = 2
    await rig.driver.hear_trainer(hello(rig))
    async with rig.running():
        await rig.heard(events.TrainerReady, 2)
    assert rig.log[1:] == ["begin 1", "begin 2"]


async def test_a_cut_that_is_taken_while_others_are_pruned_stays(rig: Rig) -> None:
    """The coordinator did not know of it when it said which snapshots are needed."""
    new = write(rig.blocks, [b"new"])
    rig.on(events.Pause, replace(cut(0), swarm=SWARM), actions.Prune(SWARM, manifest(0).id, 5, 1, ()))
    rig.driver.post(events.Pause())
    await rig.driver.hear_trainer(protocol.CutTaken(4, 9, new.cid, new.size))
    async with rig.running():
        assert await rig.heard(events.CutTaken) == [events.CutTaken(4, 9, new.cid, new.size)]
        await rig.until(lambda: rig.shelf.cids)
    assert rig.shelf.cids == {new.cid} and rig.snapshots.get(new.cid) == b"new"


async def test_what_a_trainer_writes_before_its_hello_stays(rig: Rig) -> None:
    """It writes the snapshot of its genesis first. The same goes for the one that follows on a lost one."""
    rig.on(events.Pause, replace(cut(0), swarm=SWARM), actions.Prune(SWARM, manifest(0).id, 5, 1, ()))
    async with rig.running():
        for attempt in (1, 2, 3):
            write(rig.blocks, [b"weights"])
            rig.driver.post(events.Pause())
            await rig.heard(events.Pause, attempt)
            await rig.driver.hear_trainer(hello(rig))
            await rig.heard(events.TrainerReady, attempt)
            assert rig.shelf.cids == {genesis().weights}
            assert rig.snapshots.statistics().leases == 0
            rig.driver.lost_trainer()
            assert rig.snapshots.statistics().leases == 1
            rig.shelf.keep_only([])
            rig.shelf.store.collect()
            assert not rig.shelf.cids


async def test_a_cut_is_protected_from_when_it_is_begun_until_it_is_pinned(rig: Rig) -> None:
    rig.keep()
    rig.join(LARGE)
    rig.on(events.Finish, actions.TakeCut(4, 9, ()))
    told: list[object] = []

    async def send(message: object) -> None:
        told.append(message)

    async with rig.running():
        for attempt, weights in enumerate((big(rig, 1).cid, None), 1):
            rig.driver.post(events.Finish())
            await rig.until(lambda count=attempt: len(rig.trainer.units) == count)  # type: ignore[misc]
            assert rig.snapshots.statistics().leases == 0
            await rig.trainer.units[-1](cast(Send, send))
            assert told == [protocol.TakeCut(4, 9, 0)] * attempt
            assert rig.snapshots.statistics().leases == 1
            rig.shelf.keep_only([])
            rig.shelf.store.collect()
            await rig.driver.hear_trainer(protocol.CutTaken(4, 9, weights, 12))
            assert (await rig.heard(events.CutTaken, attempt))[-1] == events.CutTaken(4, 9, weights, 12)
            assert rig.snapshots.statistics().leases == rig.snapshots.statistics().reserved == 0


async def test_a_cut_that_there_is_no_room_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coordinator gets to know; the user, once."""
    rig.keep()
    huge = replace(LARGE, layout=Layout((TensorSpec("weight", (2**36,), "float32"),)))
    rig.join(huge)
    rig.on(events.Finish, actions.TakeCut(4, 9, ()))
    free = itertools.count(2**40, 2**30)  # Others use the disk, too.
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(2**41, 0, next(free)))

    async def send(message: object) -> None:
        raise AssertionError("the trainer would fill the disk")

    async with rig.running():
        for attempt in (1, 2):
            rig.driver.post(events.Finish())
            await rig.until(lambda count=attempt: len(rig.trainer.units) == count)  # type: ignore[misc]
            await rig.trainer.units[-1](cast(Send, send))
            assert (await rig.heard(events.CutTaken, attempt))[-1] == events.CutTaken(4, 9, None, 0)
    ((level, text),) = [line for line in rig.log if isinstance(line, tuple)]
    assert level == "warning" and "no room for more snapshots" in text


async def test_rounds_and_cuts_are_passed_on(rig: Rig) -> None:
    snapshot = write(rig.blocks, [b"weights"])
    async with rig.running():
        await rig.driver.hear_trainer(protocol.RoundDone([b"part"], 7, 0.5, 1.5, None, 3, 2))
        await rig.driver.hear_trainer(protocol.CutTaken(4, 9, snapshot.cid, snapshot.size))
        await rig.driver.hear_trainer(protocol.CutTaken(5, 10, raw_cid(b"nowhere"), 12))
        await rig.driver.hear_trainer(protocol.CutTaken(6, 11, None, 0))
        assert await rig.heard(events.CutTaken, 3) == [
            events.CutTaken(4, 9, snapshot.cid, snapshot.size),
            events.CutTaken(5, 10, None, 12),
            events.CutTaken(6, 11, None, 0),
        ]
        assert rig.coordinator.said(events.RoundFinished) == [events.RoundFinished((b"part",), 7, 0.5, 1.5, None, 3, 2)]
    assert rig.shelf.cids == {snapshot.cid}


# --- what the trainer is told


async def test_weights_that_are_given_up_take_what_waits_with_them(rig: Rig) -> None:
    entry, weights = Entry.of(update(1)), raw_cid(b"weights")
    rig.on(
        events.Finish,
        actions.JoinSwarm(SWARM, genesis()),
        actions.Unapply(entry),
        actions.TakeCut(1, 2, (entry,)),
        actions.Accept(None),
        actions.LoadCut(weights, b"base", bytes(32), 99),
        actions.Forget(5, b"cut", bytes(32)),
    )
    async with rig.running():
        rig.driver.post(events.Finish())
        await rig.until(lambda: len(rig.log) == 6)
    assert rig.log == [
        *("unit", "unit", protocol.Accepted(b"", 0, b"", 0, None), "forget units"),
        protocol.Load(weights, b"base", bytes(32), 99),
        protocol.Forget(5, b"cut", bytes(32)),
    ]


async def test_a_damaged_snapshot_that_could_not_be_loaded_is_deleted(rig: Rig) -> None:
    snapshot, sound = write(rig.blocks, [b"weights"]), write(rig.blocks, [b"others"])
    rig.keep(snapshot, sound)
    rig.on(events.Finish, actions.LoadCut(snapshot.cid, None, bytes(32), 0))
    rig.on(events.Resume, actions.LoadCut(sound.cid, None, bytes(32), 0))
    failed = protocol.Failed("it cannot be read", "", False)
    async with rig.running():
        rig.driver.post(events.Resume())
        await rig.until(lambda: rig.log)
        await rig.driver.hear_trainer(failed)
        rig.driver.post(events.Finish())
        await rig.until(lambda: len(rig.log) >= 4)
        path_of(rig, snapshot.cid).write_bytes(b"weighty")
        await rig.driver.hear_trainer(failed)
    assert rig.shelf.cids == {sound.cid}
    assert lying(rig) == {digest_of(sound.cid)}


# --- exchanges


async def test_manifests_and_snapshots_come_from_another_node(rigs: tuple[Rig, Rig]) -> None:
    here, there = rigs
    there.store.carry_out([cut(0)])
    snapshot = big(there, 0)
    here.join(LARGE)
    here.on(events.Pause, actions.FetchManifest(there.key, manifest(0).cid))
    here.on(events.Resume, actions.FetchManifest(there.key, manifest(9).cid))
    here.on(events.Finish, actions.FetchSnapshot(snapshot.cid, (there.key,)))
    async with here.running():
        for event in (events.Pause(), events.Resume(), events.Finish()):
            here.driver.post(event)
        assert await here.heard(events.SnapshotFetched) == [events.SnapshotFetched(snapshot.cid, True)]
        fetched = await here.heard(events.ManifestFetched, 2)
    found = events.ManifestFetched(there.key, manifest(0).cid, manifest(0).encode())
    missing = events.ManifestFetched(there.key, manifest(9).cid, None)
    assert {event.cid: event for event in fetched} == {found.cid: found, missing.cid: missing}  # type: ignore[union-attr]
    assert here.shelf.cids == {snapshot.cid}
    assert b"".join(here.snapshots.read(snapshot.cid)) == b"".join(there.snapshots.read(snapshot.cid))
    assert here.driver.download is None


async def test_a_snapshot_that_nobody_has(rigs: tuple[Rig, Rig]) -> None:
    here, there = rigs
    here.join(LARGE)
    here.on(events.Finish, actions.FetchSnapshot(raw_cid(b"weights"), (there.key,)))
    failed = events.SnapshotFetched(raw_cid(b"weights"), False)
    async with here.running():
        for attempt in (1, 2, 3):
            here.driver.post(events.Finish())
            assert await here.heard(events.SnapshotFetched, attempt) == [failed] * attempt
    assert here.log == [("warning", "1 blocks are missing and none came")]  # Once is enough.
    assert here.network.sessions == 3


async def test_a_snapshot_that_is_here_already_is_not_fetched(rigs: tuple[Rig, Rig]) -> None:
    here, there = rigs
    snapshot = big(here, 1)
    here.join(LARGE)
    here.on(events.Finish, actions.FetchSnapshot(snapshot.cid, (there.key,)))
    async with here.running():
        here.driver.post(events.Finish())
        assert await here.heard(events.SnapshotFetched) == [events.SnapshotFetched(snapshot.cid, True)]
    assert here.shelf.cids == {snapshot.cid}
    assert not here.network.requests and not here.network.sessions


async def test_what_is_no_snapshot_of_this_model_is_refused(rigs: tuple[Rig, Rig]) -> None:
    """The trainer could not go on from it, however often it is started again."""
    here, there = rigs
    content = [header(LARGE.layout, LARGE.exponents), bytes(1_999_996)]
    strange = [write(there.blocks, content), write(there.blocks, [b"weights"])]
    here.join(LARGE)
    here.shelf.end_writing()
    here.on(events.Pause, actions.FetchSnapshot(strange[0].cid, (there.key,)))
    here.on(events.Resume, actions.FetchSnapshot(strange[1].cid, (there.key,)))
    async with here.running():
        here.driver.post(events.Pause())
        await here.heard(events.SnapshotFetched)
        here.driver.post(events.Resume())
        await here.heard(events.SnapshotFetched, 2)
        here.driver.post(events.Resume())
        heard = await here.heard(events.SnapshotFetched, 3)
    assert heard == [events.SnapshotFetched(strange[which].cid, False) for which in (0, 1, 1)]
    assert here.shelf.cids == frozenset()
    here.shelf.keep_only([])
    here.shelf.store.collect()
    assert lying(here) == set()
    assert all("none of this model" in str(line) for line in here.log) and len(here.log) == 1


async def test_the_coordinator_may_change_its_mind_about_a_snapshot(rigs: tuple[Rig, Rig]) -> None:
    here, there = rigs
    one, two = big(there, 1), big(there, 2)
    here.join(LARGE)
    source = there.network.source = Hanging(there.network.source, 0)
    here.on(events.Pause, actions.FetchSnapshot(one.cid, (there.key,)))
    here.on(events.Resume, actions.FetchSnapshot(two.cid, (there.key,)))
    async with here.running():
        here.driver.post(events.Pause())
        here.driver.post(events.Pause())
        await source.hangs.wait()
        assert here.driver.download is not None and here.driver.download.cid == one.cid
        source.left = 100
        here.driver.post(events.Resume())
        assert await here.heard(events.SnapshotFetched) == [events.SnapshotFetched(two.cid, True)]
    assert here.network.sessions == 2
    assert here.log == [] and not here.network.requests


async def test_pruning_deletes_snapshots_but_not_the_one_that_is_coming(rigs: tuple[Rig, Rig]) -> None:
    here, there = rigs
    kept, old = write(here.blocks, [b"kept"]), write(here.blocks, [b"old"])
    here.keep(kept, old)
    coming = big(there, 1)
    here.join(LARGE)
    source = there.network.source = Hanging(there.network.source, 4)
    here.on(events.Pause, actions.FetchSnapshot(coming.cid, (there.key,)))
    prune = actions.Prune(SWARM, manifest(0).id, 5, 7, (kept.cid,))
    here.on(events.Finish, replace(cut(0), swarm=SWARM), prune, actions.PublishHeartbeat(b"beat"))
    async with here.running():
        here.driver.post(events.Pause())
        await source.hangs.wait()
        await here.until(lambda: len(lying(here)) == 6)
        here.driver.post(events.Finish())
        await here.until(lambda: here.network.published)
        assert digest_of(old.cid) in lying(here)  # Nobody waits for it to be deleted.
        here.snapshots.collect()
        assert digest_of(kept.cid) in lying(here) and digest_of(old.cid) not in lying(here)
        assert len(lying(here)) == 5 and digest_of(coming.cid) in lying(here)
    assert here.store.kept(SWARM).own_seq == 7


async def test_updates_come_from_another_node(rigs: tuple[Rig, Rig]) -> None:
    here, there = rigs
    block = bytes(9000)
    signed = update(1, (block,))
    there.store.carry_out([store(signed, (block,), SWARM)])
    assert there.coordinator.ledger is not None and here.coordinator.ledger is not None
    there.coordinator.ledger.add(Entry.of(signed))
    here.coordinator.peers.append(FakePeer(there.key))
    here.on(events.Pause, actions.Sync(there.key, here.coordinator.ledger.request()))
    here.on(events.Finish, actions.Fetch(signed.digest, there.key, signed.message.parts))
    async with here.running():
        here.driver.post(events.Pause())
        here.driver.post(events.Finish())
        (replied,) = await here.heard(events.SyncReplied)
        assert isinstance(replied, events.SyncReplied) and replied.reply is not None
        assert (replied.reply.envelopes, replied.reply.more) == ((signed.envelope,), False)
        fetched = await here.heard(events.BlocksFetched)
    assert fetched == [events.BlocksFetched(signed.digest, there.key, complete=True)]
    assert here.store.piece(raw_cid(block)) == block
