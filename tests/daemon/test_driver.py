"""The driver: the order of what is done, what the trainer says and is told, fetches, full and damaged disks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import trio

from learnae import protocol
from learnae.cid import raw_cid
from learnae.coordinator import Coordinator, actions, events
from learnae.errors import StoreError
from learnae.genesis import Genesis
from learnae.layout import Layout, TensorSpec
from learnae.ledger import Applied, Entry, Kept
from learnae.rules import FULL
from learnae.snapshot import Links, exists, header, snapshot_path, write
from learnaed import patience, protocols
from learnaed.driver import Driver
from learnaed.network import Network
from learnaed.service import Service
from learnaed.snapshots import Shelf
from learnaed.store import DamagedStore, Store
from learnaed.trainer.supervisor import Item, Trainer
from tests.core.stored import AUTHOR, cut, genesis, manifest, store, update
from tests.daemon.fakes import FakeCoordinator, FakeNetwork, FakePeer, key

SWARM = genesis().swarm_id("t")


LARGE = replace(genesis(), layout=Layout((TensorSpec("weight", (500_000,), "float32"),)))


def big(directory: Path, seed: int) -> Links:
    """A snapshot of the large model."""
    return write(directory, [header(LARGE.layout, LARGE.exponents), bytes([seed]) * 2_000_000])


class FakeTrainer:
    def __init__(self, log: list[object]) -> None:
        self.log = log
        self.life = 1

    def begin(self, life: int) -> None:
        self.log.append(f"begin {life}")

    def tell(self, item: Item) -> None:
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
        self.snapshots = directory / name
        self.shelf = Shelf()
        self.network = FakeNetwork(name, others)
        Service(cast(Coordinator, self.coordinator), self.store, self.shelf).register(cast(Network, self.network))
        self.driver = Driver(
            cast(Coordinator, self.coordinator),
            self.store,
            self.shelf,
            cast(Network, self.network),
            notify=lambda level, text: self.log.append((level, text)),
        )
        self.driver.trainer = cast(Trainer, FakeTrainer(self.log))
        self.shelf.open(self.snapshots)

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


@pytest.fixture
def rig(rigs: tuple[Rig, Rig]) -> Rig:
    return rigs[0]


def hello(rig: Rig, applied: list[list[object]] | None = None) -> protocol.Hello:
    wire = genesis().to_wire()
    return protocol.Hello(wire, b"base", bytes(32), applied or [], 3, str(rig.snapshots), 16, 0, 5)


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
            raise StoreError("the disk is full")

    rig.note_stores(fail)
    rig.on(events.Finish, store(update(1), swarm=SWARM), actions.PublishHeartbeat(b"beat"))
    async with rig.running():
        rig.driver.post(events.Finish())
        await rig.until(lambda: rig.network.published)
    assert rig.log == [
        ("error", "the disk is full; waiting, and trying again"),
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
    snapshot = write(rig.snapshots, [b"weights"])
    await rig.driver.hear_trainer(hello(rig, [[AUTHOR, 1, b"digest", 4, 5]]))
    async with rig.running():
        (ready,) = await rig.heard(events.TrainerReady)
    assert ready == events.TrainerReady(
        genesis(),
        b"base",
        bytes(32),
        (Applied(AUTHOR, 1, b"digest", 4, 5),),
        3,
        Kept(entries=(Entry.of(update(1)),), own_seq=1, snapshots=frozenset({snapshot.cid})),
    )
    assert rig.log == ["begin 1"]
    assert rig.driver.rounds == 5


async def test_what_is_kept_is_looked_up_when_all_that_came_before_the_trainer_is_done(rig: Rig) -> None:
    """Else it would be told to go on from a snapshot that is deleted, or to subtract what is pruned."""
    kept, old = write(rig.snapshots, [b"kept"]), write(rig.snapshots, [b"old"])
    rig.shelf.open(rig.snapshots)
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
    assert not exists(rig.snapshots, old.cid)


async def test_a_trainer_begins_as_the_one_that_said_hello(rig: Rig) -> None:
    await rig.driver.hear_trainer(hello(rig))
    rig.driver.lost_trainer()
    assert rig.driver.trainer is not None
    rig.driver.trainer.life = 2
    await rig.driver.hear_trainer(hello(rig))
    async with rig.running():
        await rig.heard(events.TrainerReady, 2)
    assert rig.log[1:] == ["begin 1", "begin 2"]


async def test_a_cut_that_is_taken_while_others_are_pruned_stays(rig: Rig) -> None:
    """The coordinator did not know of it when it said which snapshots are needed."""
    new = write(rig.snapshots, [b"new"])
    rig.on(events.Pause, replace(cut(0), swarm=SWARM), actions.Prune(SWARM, manifest(0).id, 5, 1, ()))
    rig.driver.post(events.Pause())
    await rig.driver.hear_trainer(protocol.CutTaken(4, 9, new.cid, new.size))
    async with rig.running():
        assert await rig.heard(events.CutTaken) == [events.CutTaken(4, 9, new.cid, new.size)]
        await rig.until(lambda: rig.shelf.cids)
    assert rig.shelf.cids == {new.cid} and exists(rig.snapshots, new.cid)


@pytest.mark.parametrize(("weights", "warned"), [(450_000_000, False), (460_000_000, True)])
async def test_a_model_that_is_too_large_for_snapshots(rig: Rig, weights: int, warned: bool) -> None:
    large = replace(genesis(), layout=Layout((TensorSpec("weight", (weights,), "float32"),)))
    await rig.driver.hear_trainer(replace(hello(rig), genesis=large.to_wire()))
    said = [line for line in rig.log if isinstance(line, tuple)]
    assert [level for level, text in said if "too large to be shared as a snapshot" in text] == ["warning"] * warned


async def test_rounds_and_cuts_are_passed_on(rig: Rig) -> None:
    snapshot = write(rig.snapshots, [b"weights"])
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
        actions.Unapply(entry),
        actions.TakeCut(1, 2, (entry,)),
        actions.Accept(None),
        actions.LoadCut(weights, b"base", bytes(32), 99),
        actions.Forget(5, b"cut", bytes(32)),
    )
    async with rig.running():
        rig.driver.post(events.Finish())
        await rig.until(lambda: len(rig.log) == 6)
    path = str(snapshot_path(rig.snapshots, weights))
    assert rig.log == [
        *("unit", "unit", protocol.Accepted(b"", 0, b"", 0, None), "forget units"),
        protocol.Load(path, b"base", bytes(32), 99),
        protocol.Forget(5, b"cut", bytes(32)),
    ]


async def test_a_damaged_snapshot_that_could_not_be_loaded_is_deleted(rig: Rig) -> None:
    snapshot, sound = write(rig.snapshots, [b"weights"]), write(rig.snapshots, [b"others"])
    rig.shelf.open(rig.snapshots)
    rig.on(events.Finish, actions.LoadCut(snapshot.cid, None, bytes(32), 0))
    rig.on(events.Resume, actions.LoadCut(sound.cid, None, bytes(32), 0))
    failed = protocol.Failed("it cannot be read", "", False)
    async with rig.running():
        rig.driver.post(events.Resume())
        await rig.until(lambda: rig.log)
        await rig.driver.hear_trainer(failed)
        rig.driver.post(events.Finish())
        await rig.until(lambda: len(rig.log) >= 4)
        snapshot_path(rig.snapshots, snapshot.cid).write_bytes(b"weighty")
        await rig.driver.hear_trainer(failed)
    assert rig.shelf.cids == {sound.cid}


# --- exchanges


async def test_manifests_and_snapshots_come_from_another_node(rigs: tuple[Rig, Rig]) -> None:
    here, there = rigs
    there.store.carry_out([cut(0)])
    snapshot = big(there.snapshots, 0)
    there.shelf.open(there.snapshots)
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
    assert here.log == [("warning", "no peer gives the snapshot")]  # Once is enough.


async def test_a_snapshot_that_is_here_already_is_not_fetched(rigs: tuple[Rig, Rig]) -> None:
    here, there = rigs
    snapshot = big(here.snapshots, 1)
    here.join(LARGE)
    here.on(events.Finish, actions.FetchSnapshot(snapshot.cid, (there.key,)))
    async with here.running():
        here.driver.post(events.Finish())
        assert await here.heard(events.SnapshotFetched) == [events.SnapshotFetched(snapshot.cid, True)]
    assert here.shelf.cids == {snapshot.cid}
    assert not here.network.requests


async def test_what_is_no_snapshot_of_this_model_is_refused(rigs: tuple[Rig, Rig]) -> None:
    """The trainer could not go on from it, however often it is started again."""
    here, there = rigs
    content = [header(LARGE.layout, LARGE.exponents), bytes(1_999_996)]
    strange = [write(there.snapshots, content), write(there.snapshots, [b"weights"])]
    there.shelf.open(there.snapshots)
    here.join(LARGE)
    here.on(events.Pause, actions.FetchSnapshot(strange[0].cid, (there.key,)))
    here.on(events.Resume, actions.FetchSnapshot(strange[1].cid, (there.key,)))
    async with here.running():
        here.driver.post(events.Pause())
        await here.heard(events.SnapshotFetched)
        here.driver.post(events.Resume())
        heard = await here.heard(events.SnapshotFetched, 2)
    assert heard == [events.SnapshotFetched(links.cid, False) for links in strange]
    assert list(here.snapshots.iterdir()) == []
    assert all("none of this model" in str(line) for line in here.log) and len(here.log) == 2


async def test_the_coordinator_may_change_its_mind_about_a_snapshot(rigs: tuple[Rig, Rig]) -> None:
    here, there = rigs
    one, two = big(there.snapshots, 1), big(there.snapshots, 2)
    there.shelf.open(there.snapshots)
    here.join(LARGE)
    asked = trio.Event()
    serve = there.network.handlers[protocols.BLOCK]

    async def first_hangs(body: bytes, peer: str) -> bytes:
        if not asked.is_set():
            asked.set()
            await trio.sleep_forever()
        return await serve(body, peer)

    there.network.handlers[protocols.BLOCK] = first_hangs
    here.on(events.Pause, actions.FetchSnapshot(one.cid, (there.key,)))
    here.on(events.Resume, actions.FetchSnapshot(two.cid, (there.key,)))
    async with here.running():
        here.driver.post(events.Pause())
        here.driver.post(events.Pause())
        await asked.wait()
        assert here.driver.download is not None and here.driver.download.cid == one.cid
        here.driver.post(events.Resume())
        assert await here.heard(events.SnapshotFetched) == [events.SnapshotFetched(two.cid, True)]
    assert here.network.requests[protocols.BLOCK] == 5  # the one that hung, links, and eight leaves by three
    assert here.log == []


async def test_pruning_deletes_snapshots_but_not_the_one_that_is_coming(rigs: tuple[Rig, Rig]) -> None:
    here, there = rigs
    kept, old = write(here.snapshots, [b"kept"]), write(here.snapshots, [b"old"])
    coming = raw_cid(b"coming")
    here.shelf.open(here.snapshots)
    here.join(genesis())
    hanging = trio.Event()

    async def hangs(body: bytes, peer: str) -> bytes:
        draft = snapshot_path(here.snapshots, coming).with_suffix(".partial")
        await trio.Path(draft).write_bytes(b"half")
        hanging.set()
        await trio.sleep_forever()
        raise AssertionError

    there.network.handlers[protocols.BLOCK] = hangs
    here.on(events.Pause, actions.FetchSnapshot(coming, (there.key,)))
    prune = actions.Prune(SWARM, manifest(0).id, 5, 7, (kept.cid,))
    here.on(events.Finish, replace(cut(0), swarm=SWARM), prune, actions.PublishHeartbeat(b"beat"))
    async with here.running():
        here.driver.post(events.Pause())
        await hanging.wait()
        here.driver.post(events.Finish())
        await here.until(lambda: here.network.published)
        assert [exists(here.snapshots, links.cid) for links in (kept, old)] == [True, False]
        assert len(list(here.snapshots.glob("*.partial"))) == 1
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
