"""Feeds the coordinator with events and carries out its actions: the hub between network, store and trainer."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import get_args

import trio

from learnae import protocol
from learnae.coordinator import Coordinator, actions, events
from learnae.errors import NetworkError, StoreError, TaskError, WireError
from learnae.genesis import Genesis
from learnae.layout import Layout
from learnae.ledger import Applied, Kept, Refusal
from learnae.manifest import Manifest
from learnae.peer import peer_id, public_key
from learnae.rules import FULL
from learnae.snapshot import header
from learnae.vector import UpdateId
from learnaed import logs, protocols
from learnaed.asker import Asker
from learnaed.feed import Feed, Kind, finite
from learnaed.network import Network
from learnaed.patience import Patience
from learnaed.payloads import Payloads
from learnaed.snapshots import Archive, Progress, Receiver, Shelf
from learnaed.store import Change, DamagedStore, Store
from learnaed.trainer.supervisor import Item, Send, Trainer, Unit

_TICK = 0.25
_TICKS_PER_LOOK = 20
"""Network interfaces come and go; asking the system which there are costs more than a tick."""
_QUEUE = 4096
"""Most messages of others that may wait; beyond it they are dropped, and repair brings the updates later."""
_BATCH = 64
"""Most events that share a transaction, which waits for the disk: about 5 ms, the work of twenty events."""
_BATCH_ACTIONS = 512
_ALONE = (events.TrainerReady, events.TrainerLost)
"""The actions of what came before are for another trainer than those of what comes after."""
_LAST = (*_ALONE, events.RoundFinished)
"""These are not to wait for what comes after: a trainer stands idle."""
_TIDY_EVERY = 60.0
_CHANGES = get_args(Change)
_VOIDS = 1000

log = logs.get("driver")


@dataclass(frozen=True, slots=True)
class DriverStatistics:
    """Figures for the status endpoint."""

    queued: int
    events: int
    store_failures: int
    store_waiting: int


class Driver:
    """Runs one coordinator.

    Events are handled one by one, in batches of those that wait. What a batch changes in the store is made durable in
    one transaction, before anything of it is announced to others or told to the trainer; then its actions are carried
    out in order, and only then the next batch begins. Exchanges with peers run beside that.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        store: Store,
        shelf: Shelf,
        network: Network,
        *,
        notify: Callable[[str, str], None],
        archive: Archive | None = None,
        on_archive: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
        last_round: int | None = None,
        feed: Feed | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.trainer: Trainer | None = None
        self.report: protocol.Report | None = None
        self.final_report = trio.Event()
        self.left = trio.Event()
        self.rounds = 0
        self.out_of_memory: Callable[[str], None] = partial(notify, "error")
        """Told when the trainer ends because it needed more memory than it may have."""
        self._coordinator = coordinator
        self._store = store
        self._shelf = shelf
        self._archive = archive or Archive(shelf)
        self._on_archive = on_archive
        self._network = network
        self._notify = notify
        self._last_round = last_round
        self._feed = feed or Feed()
        self.voids: deque[UpdateId] = deque(maxlen=_VOIDS)
        """Updates lately found to have a payload that cannot be decoded."""
        self._clock = clock
        self._queue: deque[tuple[float, events.Event]] = deque()
        self._wake = trio.Event()
        self._patiently = Patience(notify)
        self._asker = Asker(network, coordinator.refused)
        self._payloads = Payloads(store, self._patiently, self._asker, self._connected, notify)
        self._receiver = Receiver(shelf, network, notify)
        self._arrived: deque[int] = deque()
        """Which trainers have said hello."""
        self._loaded: bytes | None = None
        self._swarm = b""
        self._layout: Layout | None = None
        self._snapshot_size = 0
        self._start: Manifest | None = None
        self._tidied = -math.inf
        self._events = 0
        self._addresses: tuple[str, ...] = ()
        self._topic: str | None = None

    # --- events in

    def post(self, event: events.Event) -> None:
        """Queue an event, with the time at which it happened: it may wait while the disk is slow."""
        self._queue.append((self._clock(), event))
        self._wake.set()

    def _post_from_outside(self, kind: Callable[[bytes, bytes], events.Event], data: bytes, peer: str) -> None:
        if len(self._queue) >= _QUEUE:
            self._coordinator.refused[Refusal.OVERLOAD] += 1
            return
        try:
            self.post(kind(data, public_key(peer)))
        except WireError:
            self._coordinator.refused[Refusal.MALFORMED] += 1

    def connection(self, peer: str, connected: bool) -> None:
        """The network's news about a peer."""
        try:
            key = public_key(peer)
        except WireError:
            return  # A libp2p node with another kind of key is none of ours.
        self._feed.post(Kind.PEER, peer=peer, connected=connected)
        self.post(events.PeerConnected(key) if connected else events.PeerDisconnected(key))

    def _connected(self) -> list[bytes]:
        return [peer.key for peer in self._coordinator.peers if peer.connected]

    def lost_trainer(
        self,
        wanted: bool = False,
        text: str = "the trainer process ended; it is started again and resumes from its saved state",
    ) -> None:
        """The trainer ended. `wanted`: a change of the limits needs a new process; else the user is told `text`."""
        if wanted:
            self._notify("info", "the trainer process is started anew, as the limits want it, from its saved state")
        else:
            self._notify("warning", text)
        self._relaunched()
        self._shelf.untidy = True  # of what it was writing
        self.post(events.TrainerLost())

    def _relaunched(self) -> None:
        # The next one writes the snapshot of its genesis before it says hello.
        with contextlib.suppress(StoreError):
            self._shelf.begin_writing()

    async def hear_trainer(self, message: protocol.TrainerMessage) -> None:
        """A message of the trainer process."""
        match message:
            case protocol.Hello():
                self._trainer_ready(message)
            case protocol.RoundDone():
                fields = (message.samples, message.share, message.norm, message.loss, message.after, message.loads)
                self.post(events.RoundFinished(tuple(message.parts), *fields))
            case protocol.CutTaken():
                self.post(events.CutTaken(message.index, message.token, message.weights, message.size))
            case protocol.Report():
                self._take_report(message)
            case protocol.Finished():
                self.post(events.TrainerFinished())
            case protocol.Leave():
                self.post(events.Finish())
            case protocol.Void():
                self.voids.append((message.author, message.seq))
                self.post(events.PayloadVoid((message.author, message.seq)))
            case protocol.Warned():
                self._notify("warning", message.text)
            case protocol.Failed(memory=True):
                self.out_of_memory(message.message)
            case protocol.Failed():
                self._notify("error", f"[{message.code}] {message.message}")
                if self._loaded is not None:
                    await self._discard_damaged(self._loaded)
            case _:
                log.warning("unexpected message from the trainer", kind=type(message).__name__)

    async def _discard_damaged(self, weights: bytes) -> None:
        try:
            await trio.to_thread.run_sync(self._shelf.discard_damaged, weights)
        except DamagedStore:
            raise
        except StoreError as error:
            log.warning("the snapshot that was to be loaded cannot be looked at", why=error)

    def _trainer_ready(self, hello: protocol.Hello) -> None:
        try:
            genesis = Genesis.from_wire(hello.genesis)
        except WireError as error:
            raise TaskError(
                f"the task cannot be shared: {error}. Correct the task, or its slot_seconds", code="task-invalid"
            ) from error
        swarm = genesis.swarm_id(self._coordinator.topic)
        if self._start is not None and self._start.swarm != swarm:
            raise TaskError(
                f"the cut that --from names, of interval {self._start.index}, belongs to another swarm: another topic, "
                "model, initial weights, slot or rules. Use the topic and task with which it was made",
                code="cut-foreign",
            )
        self.rounds = hello.rounds
        log.info("trainer ready", parameters=hello.parameters, local_tensors=hello.local, rounds=hello.rounds)
        applied = tuple(Applied(*row) for row in hello.applied)
        self._arrived.append(self.trainer.life if self.trainer is not None else 0)
        self.post(events.TrainerReady(genesis, hello.base, hello.total, applied, hello.own_seq, Kept()))

    def starts_from(self, manifest: Manifest) -> None:
        """The user wants this cut for a beginning: the task must be of its swarm."""
        self._start = manifest

    def _take_report(self, report: protocol.Report) -> None:
        for alarm in report.alarms if self.report is None or report.alarms != self.report.alarms else ():
            self._notify("warning", f"tensor {alarm} is near the limit of its range; the learning rate may be too high")
        self.report = report
        self.rounds = report.rounds
        self._feed.post(
            Kind.REPORT,
            rounds=report.rounds,
            steps=report.steps,
            samples=report.samples,
            loss=finite(report.loss),
            accuracy=finite(report.metrics.get("accuracy")),
            accuracy_averaged=finite(report.averaged.get("accuracy")),
            steps_per_second=report.steps_per_second,
        )
        self.post(events.Progress(report.samples_per_second))
        if self._last_round is not None and report.rounds >= self._last_round:
            self.post(events.Finish())
        if report.final:
            self.final_report.set()

    # --- the loop

    async def run(self) -> None:
        """Handle events until cancelled.

        Raises:
            DamagedStore: the database is damaged.
        """
        self._network.subscribe(
            protocols.peers_topic(self._coordinator.topic), partial(self._post_from_outside, events.HeartbeatHeard)
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick)
            while True:
                todo = await self._handle_batch()
                changes = [action for action in todo if isinstance(action, _CHANGES)]
                if changes:
                    await self._patiently(self._store.carry_out, changes)
                for action in todo:
                    self._perform(action, nursery)
                    if isinstance(action, actions.Settle | actions.Prune):
                        await self._keep_cuts(action)
                if trio.current_time() - self._tidied >= _TIDY_EVERY:
                    await self._tidy()

    async def _handle_batch(self) -> list[actions.Action]:
        """Wait for an event; what follows from it, and from those behind it that can be handled before that is done."""
        while not self._queue:
            self._wake = trio.Event()
            await self._wake.wait()
        todo: list[actions.Action] = []
        for _ in range(_BATCH):
            now, event = self._queue.popleft()
            self._events += 1
            follows = self._coordinator.handle(await self._prepared(event), now)
            todo += follows
            # What is prepared for an event looks at the files, of which Prune deletes some.
            if isinstance(event, _LAST) or any(isinstance(action, actions.Prune) for action in follows):
                break
            if not self._queue or isinstance(self._queue[0][1], _ALONE) or len(todo) >= _BATCH_ACTIONS:
                break
            await trio.lowlevel.checkpoint()
        return todo

    async def _prepared(self, event: events.Event) -> events.Event:
        """Do what must be done when the coordinator gets to know of an event, and not earlier."""
        match event:
            case events.TrainerReady():
                return await self._welcomed(event, self._arrived.popleft())
            case events.CutTaken(weights=cid):
                kept = cid is not None and await trio.to_thread.run_sync(self._shelf.add, cid)
                await trio.to_thread.run_sync(self._shelf.end_writing, (event.index, event.token))
                return event if kept else replace(event, weights=None)
            case events.BlocksFetched(complete=True):
                return await self._payloads.confirmed(event)
            case events.SnapshotFetched(weights=cid, ok=True):
                return replace(event, ok=await trio.to_thread.run_sync(self._shelf.add, cid))
        return event

    async def _welcomed(self, ready: events.TrainerReady, life: int) -> events.TrainerReady:
        """What is kept, now that all events from before the trainer came have been dealt with."""
        self._loaded = None
        await trio.to_thread.run_sync(self._shelf.add, ready.genesis.weights)
        await trio.to_thread.run_sync(self._shelf.end_all_writing)
        kept = await self._patiently(self._store.kept, ready.genesis.swarm_id(self._coordinator.topic))
        for manifest in kept.manifests:  # A crash may have come between a settled cut and its archive.
            await trio.to_thread.run_sync(self._archive.caught_up, manifest)
        if self.trainer is not None:
            self.trainer.begin(life)
        return replace(ready, kept=replace(kept, snapshots=self._shelf.cids))

    async def _tidy(self) -> None:
        # Here and nowhere else: no block may go between the look at it in `_prepared` and the transaction.
        self._tidied = trio.current_time()
        try:
            await trio.to_thread.run_sync(self._store.expire)
        except DamagedStore:
            raise
        except StoreError as error:
            log.debug("blocks that nobody needs stay", why=error)

    async def _keep_cuts(self, action: actions.Settle | actions.Prune) -> None:
        try:
            if isinstance(action, actions.Prune):
                await trio.to_thread.run_sync(self._archive.keep_only, action.snapshots, action.swarm)
            elif (data := await trio.to_thread.run_sync(self._store.block, action.cut.cid)) is not None:
                await trio.to_thread.run_sync(self._archive.settled, data)
            await self._on_archive()
        except DamagedStore:
            raise
        except StoreError as error:
            log.warning("a cut is not archived", why=error)

    async def _tick(self) -> None:
        for count in itertools.count():
            if count % _TICKS_PER_LOOK == 0:
                self._look_at_addresses()
            if len(self._queue) < _QUEUE:
                self.post(events.Tick())
            await trio.sleep(_TICK)

    def _look_at_addresses(self) -> None:
        addresses = self._network.addresses
        if addresses != self._addresses:
            self._addresses = addresses
            self.post(events.Listening(tuple(address.partition("/p2p/")[0] for address in addresses)))

    # --- actions out

    def _perform(self, action: actions.Action, nursery: trio.Nursery) -> None:
        match action:
            case actions.Apply():
                self._tell(self._payloads.add(self._swarm, action.entry, action.ratio))
            case actions.Unapply():
                self._tell(self._payloads.remove(self._swarm, action.entry))
            case actions.TakeCut():
                self._tell(self._taking(action))
            case actions.Accept():
                self._accept(action)
            case actions.Forget():
                self._tell(protocol.Forget(action.slot, action.base, action.total))
            case actions.LoadCut():
                self._load(action)
            case actions.Train():
                self._tell(protocol.SetMode(action.mode.value))
            case actions.SetShare():
                self._tell(protocol.SetShare(action.share))
            case actions.JoinSwarm():
                self._join(action)
            case actions.PublishUpdate():
                nursery.start_soon(self._publish, self._topic, action.envelope)
            case actions.PublishHeartbeat():
                nursery.start_soon(self._publish, protocols.peers_topic(self._coordinator.topic), action.envelope)
            case actions.Sync():
                nursery.start_soon(self._sync, action)
            case actions.Fetch():
                nursery.start_soon(self._fetch, action)
            case actions.AskGenesis():
                nursery.start_soon(self._ask_genesis, action.peer)
            case actions.FetchManifest():
                nursery.start_soon(self._fetch_manifest, action)
            case actions.FetchSnapshot():
                nursery.start_soon(self._fetch_snapshot, action)
            case actions.LearnAddresses():
                self._network.learn_addresses(peer_id(action.peer), action.addresses)
            case actions.Notice():
                self._notify(action.level, action.text)
            case actions.Leave():
                self.left.set()

    def _tell(self, item: Item) -> None:
        if self.trainer is not None:
            self.trainer.tell(item)

    def _accept(self, action: actions.Accept) -> None:
        entry = action.entry
        if entry is None:
            self._tell(protocol.Accepted(b"", action.own_seq, b"", 0, None))
        else:
            self._feed.post(
                Kind.ROUND,
                seq=entry.seq,
                slot=entry.slot,
                samples=entry.samples,
                norm=finite(entry.norm),
                loss=finite(entry.loss),
                counts=action.ratio / FULL,
            )
            self._tell(protocol.Accepted(entry.author, entry.seq, entry.digest, entry.slot, action.ratio))

    def _taking(self, action: actions.TakeCut) -> Unit:
        """Has the trainer write a cut, if there is room for it."""
        size, which = self._snapshot_size, (action.index, action.token)
        cut = self._payloads.cut(self._swarm, action.index, action.token, action.minus)

        async def unit(send: Send) -> None:
            try:
                await trio.to_thread.run_sync(self._shelf.begin_writing, which, size)
            except StoreError as error:
                self._receiver.complain(error)
                self.post(events.CutTaken(action.index, action.token, None, 0))
                return
            try:
                await cut(send)
            except BaseException:
                self._shelf.end_writing(which)  # The trainer will not answer.
                raise

        return unit

    def _load(self, action: actions.LoadCut) -> None:
        if self.trainer is not None:
            # Whatever waits was about the weights that are given up now; its payloads may be gone.
            self.trainer.forget_units()
        self._payloads.give_up()
        self._loaded = action.weights
        self._tell(protocol.Load(action.weights, action.base, action.total, action.samples))

    def _join(self, action: actions.JoinSwarm) -> None:
        self._swarm, self._layout = action.swarm, action.genesis.layout
        plain = len(header(self._layout, action.genesis.exponents)) + 4 * self._layout.size
        self._snapshot_size = plain + plain // 100 + 4096  # with the nodes of its tree
        if self._topic is not None:
            self._network.unsubscribe(self._topic)
        self._topic = protocols.updates_topic(self._coordinator.topic, action.genesis.layout.fingerprint)
        self._network.subscribe(self._topic, partial(self._post_from_outside, events.UpdateHeard))
        log.info("joined swarm", swarm=action.swarm.hex()[:16], tensors=len(action.genesis.layout.tensors))

    async def _publish(self, topic: str | None, data: bytes) -> None:
        assert topic is not None
        try:
            await self._network.publish(topic, data)
        except NetworkError as error:
            log.warning("not published", why=error)

    # --- exchanges with peers

    async def _sync(self, action: actions.Sync) -> None:
        self.post(events.SyncReplied(action.peer, await self._asker.sync(action.peer, action.request)))

    async def _ask_genesis(self, peer: bytes) -> None:
        self.post(events.GenesisHeard(peer, await self._asker.genesis(peer)))

    async def _fetch(self, action: actions.Fetch) -> None:
        self.post(await self._payloads.fetch(action))

    async def _fetch_manifest(self, action: actions.FetchManifest) -> None:
        blocks = await self._asker.blocks(action.peer, [action.cid])
        self.post(events.ManifestFetched(action.peer, action.cid, blocks[0] if blocks else None))

    async def _fetch_snapshot(self, action: actions.FetchSnapshot) -> None:
        assert self._layout is not None
        done = await self._receiver.fetch(action.weights, action.holders, self._layout)
        if done is not None:
            self.post(events.SnapshotFetched(action.weights, done))

    @property
    def download(self) -> Progress | None:
        """The snapshot that is being fetched, if one is."""
        return self._receiver.progress

    # --- the end

    async def say_farewell(self) -> None:
        """Tell the others that this node leaves, so that they do not wait for it."""
        farewell = self._coordinator.farewell(self._clock())
        await self._publish(protocols.peers_topic(self._coordinator.topic), farewell.envelope)

    def statistics(self) -> DriverStatistics:
        """Figures for the status endpoint."""
        return DriverStatistics(len(self._queue), self._events, self._patiently.failures, self._patiently.waiting)
