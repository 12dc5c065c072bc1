"""Feeds the coordinator with events and carries out its actions: the hub between network, store and trainer."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import trio

from learnae import protocol, wire
from learnae.cid import raw_cid
from learnae.coordinator import Coordinator, actions, events
from learnae.errors import NetworkError, StoreError, TaskError, WireError
from learnae.genesis import Genesis
from learnae.ledger import Entry, Refusal
from learnae.peer import peer_id, public_key
from learnae.vector import UpdateId, VersionVector
from learnae.wire import BlockReply, BlockRequest, GenesisReply, GenesisRequest, Part, SyncReply
from learnaed import logs, protocols
from learnaed.network import Network
from learnaed.store import Kept, Store
from learnaed.trainer.supervisor import Trainer

_TICK = 0.25
_TICKS_PER_LOOK = 20
"""Network interfaces come and go; asking the system which there are costs more than a tick."""
_QUEUE = 4096
"""Most messages of others that may wait; beyond it they are dropped, and repair brings the updates later."""
_BLOCKS_AT_ONCE = 3

T = TypeVar("T")

log = logs.get("driver")


@dataclass(frozen=True, slots=True)
class DriverStatistics:
    """Figures for the status endpoint."""

    queued: int
    events: int
    store_failures: int


class Driver:
    """Runs one coordinator.

    Events are handled one by one, and the actions of each are carried out in order before the next: an update is
    durable before it is announced, and before the trainer adds it. Exchanges with peers run beside that.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        store: Store,
        network: Network,
        *,
        notify: Callable[[str, str], None],
        last_round: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.trainer: Trainer | None = None
        self.report: protocol.Report | None = None
        self.final_report = trio.Event()
        self.left = trio.Event()
        self.rounds = 0
        self._coordinator = coordinator
        self._store = store
        self._network = network
        self._notify = notify
        self._last_round = last_round
        self._clock = clock
        self._send, self._receive = trio.open_memory_channel[tuple[float, events.Event]](math.inf)
        self._events = 0
        self._store_failures = 0
        self._addresses: tuple[str, ...] = ()
        self._topic: str | None = None

    # --- events in

    def post(self, event: events.Event) -> None:
        """Queue an event, with the time at which it happened: it may wait while the disk is slow."""
        self._send.send_nowait((self._clock(), event))

    def _post_from_outside(self, kind: Callable[[bytes, bytes], events.Event], data: bytes, peer: str) -> None:
        if self._send.statistics().current_buffer_used >= _QUEUE:
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
        self.post(events.PeerConnected(key) if connected else events.PeerDisconnected(key))

    def lost_trainer(self) -> None:
        """The trainer process ended without being asked to."""
        self._notify("warning", "the trainer process ended; it is started again and resumes from its saved state")
        self.post(events.TrainerLost())

    async def hear_trainer(self, message: protocol.TrainerMessage) -> None:
        """A message of the trainer process."""
        match message:
            case protocol.Hello():
                await self._trainer_ready(message)
            case protocol.RoundDone():
                self.post(
                    events.RoundFinished(
                        tuple(message.parts),
                        message.samples,
                        message.share,
                        message.norm,
                        message.loss,
                        message.after,
                    )
                )
            case protocol.Report():
                self._take_report(message)
            case protocol.Finished():
                self.post(events.TrainerFinished())
            case protocol.Void():
                self.post(events.PayloadVoid((message.author, message.seq)))
            case protocol.Warned():
                self._notify("warning", message.text)
            case protocol.Failed():
                self._notify("error", message.message)
            case _:
                log.warning("unexpected message from the trainer", kind=type(message).__name__)

    async def _trainer_ready(self, hello: protocol.Hello) -> None:
        try:
            genesis, applied = Genesis.from_wire(hello.genesis), VersionVector.from_wire(hello.applied)
        except WireError as error:
            raise TaskError(f"the task cannot be shared: {error}. Correct the task, or its slot_seconds") from error
        swarm = genesis.swarm_id(self._coordinator.topic)
        known = await self._patiently(self._store.entries, swarm)
        self.rounds = hello.rounds
        log.info("trainer ready", parameters=hello.parameters, local_tensors=hello.local, rounds=hello.rounds)
        self.post(events.TrainerReady(genesis, applied, known))

    def _take_report(self, report: protocol.Report) -> None:
        for alarm in report.alarms if self.report is None or report.alarms != self.report.alarms else ():
            self._notify("warning", f"tensor {alarm} is near the limit of its range; the learning rate may be too high")
        self.report = report
        self.rounds = report.rounds
        self.post(events.Progress(report.samples_per_second))
        if self._last_round is not None and report.rounds >= self._last_round:
            self.post(events.Finish())
        if report.final:
            self.final_report.set()

    # --- the loop

    async def run(self) -> None:
        """Handle events until cancelled."""
        self._network.subscribe(
            protocols.peers_topic(self._coordinator.topic), partial(self._post_from_outside, events.HeartbeatHeard)
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick)
            async for now, event in self._receive:
                self._events += 1
                if isinstance(event, events.TrainerReady) and self.trainer is not None:
                    self.trainer.begin()
                todo = self._coordinator.handle(event, now)
                kept = [_kept(action) for action in todo if isinstance(action, actions.Store)]
                if kept:
                    await self._patiently(self._store.add, kept)
                for action in todo:
                    self._perform(action, nursery)

    async def _tick(self) -> None:
        for count in itertools.count():
            if count % _TICKS_PER_LOOK == 0:
                self._look_at_addresses()
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
                self._tell(action.update)
            case actions.Accept():
                self._tell(protocol.Accepted(*action.update))
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
            case actions.LearnAddresses():
                self._network.learn_addresses(peer_id(action.peer), action.addresses)
            case actions.Notice():
                self._notify(action.level, action.text)
            case actions.Leave():
                self.left.set()

    def _tell(self, item: protocol.TrainerMessage | UpdateId) -> None:
        if self.trainer is not None:
            self.trainer.tell(item)

    async def _patiently(self, method: Callable[..., T], *arguments: object) -> T:
        """Call a method of the store until it succeeds: what is not durable may not be announced or added."""
        while True:
            try:
                return await trio.to_thread.run_sync(partial(method, *arguments))
            except StoreError as error:
                self._store_failures += 1
                self._notify("error", f"{error}; waiting, and trying again")
                await trio.sleep(5.0)

    async def load(self, update: UpdateId) -> protocol.Add:
        """The trainer's message for a stored update."""
        ledger = self._coordinator.ledger
        assert ledger is not None
        found, parts = await self._patiently(self._store.payload, ledger.swarm, *update)
        return protocol.Add(update[0], update[1], found.samples, parts)

    def _join(self, action: actions.JoinSwarm) -> None:
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

    async def _ask(self, peer: bytes, name: str, request: wire.Message, kind: type[Any]) -> Any:
        """The reply of a peer, or None with the reason in the log."""
        try:
            body = await self._network.request(peer_id(peer), name, wire.pack(request), max_reply=wire.MAX_REPLY)
            return wire.unpack(kind, body)
        except NetworkError as error:
            log.debug("no answer", peer=peer_id(peer), protocol=name, why=error)
        except WireError as error:
            self._coordinator.refused[Refusal.MALFORMED] += 1
            log.warning("malformed answer", peer=peer_id(peer), protocol=name, why=error)
        return None

    async def _sync(self, action: actions.Sync) -> None:
        reply: SyncReply | None = await self._ask(action.peer, protocols.SYNC, action.request, SyncReply)
        self.post(events.SyncReplied(action.peer, reply))

    async def _ask_genesis(self, peer: bytes) -> None:
        reply: GenesisReply | None = await self._ask(peer, protocols.GENESIS, GenesisRequest(), GenesisReply)
        self.post(events.GenesisHeard(peer, reply.genesis if reply else None))

    async def _fetch(self, action: actions.Fetch) -> None:
        blocks: list[bytes] = []
        while len(blocks) < len(action.parts):
            wanted = action.parts[len(blocks) : len(blocks) + _BLOCKS_AT_ONCE]
            request = BlockRequest(tuple(part.cid for part in wanted))
            reply: BlockReply | None = await self._ask(action.peer, protocols.BLOCK, request, BlockReply)
            if reply is None or not reply.blocks or not all(reply.blocks):
                self.post(events.BlocksFetched(action.update, action.peer, None))
                return
            given = reply.blocks[: len(wanted)]
            blocks += given
            if [Part(raw_cid(block), len(block)) for block in given] != list(wanted[: len(given)]):
                break  # No need to collect the rest of a lie; the coordinator sees that it is one.
        self.post(events.BlocksFetched(action.update, action.peer, tuple(blocks)))

    # --- the end

    async def say_farewell(self) -> None:
        """Tell the others that this node leaves, so that they do not wait for it."""
        farewell = self._coordinator.farewell(self._clock())
        await self._publish(protocols.peers_topic(self._coordinator.topic), farewell.envelope)

    def statistics(self) -> DriverStatistics:
        """Figures for the status endpoint."""
        return DriverStatistics(self._send.statistics().current_buffer_used, self._events, self._store_failures)


def _kept(action: actions.Store) -> Kept:
    update = action.update
    entry = Entry(action.author, update.seq, update.slot, update.samples, action.digest)
    return action.swarm, entry, action.envelope, action.blocks
