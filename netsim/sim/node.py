"""One simulated node: the daemon's coordinator, with a disk and a trainer that carry out its actions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from nacl.signing import SigningKey

from learnae import wire
from learnae.coordinator import Coordinator, Settings, actions, events
from learnae.errors import LearnerError
from learnae.genesis import Genesis
from learnae.learner import Round
from learnae.vector import VersionVector
from learnae.wire import SyncReply, SyncRequest
from netsim.crew import Attack, Crew, Heard, Trainer
from netsim.sim import sharing
from netsim.sim.agenda import Agenda
from netsim.sim.clocks import Clock
from netsim.sim.disk import Books, Checkpoint, Disk
from netsim.sim.gossip import Gossip
from netsim.sim.network import Letter, Network
from netsim.sim.rounds import Rounds
from netsim.sim.sharing import Shared

_FIRST = 2.5
"""Seconds that those take at most who are there from the start: a run begins when they are about to be ready."""
_WRITING = 0.02
"""Seconds to write a snapshot."""
_WAIT = 2.0
"""Seconds until a snapshot is reported missing that none of its holders gives."""
_HOLDERS = 4
"""From so many nodes at a time a snapshot is fetched."""
_BRISK = 5.0
"""Most seconds between two ticks of a node that does not train yet,"""
_EARLY = ("starting", "joining")
"""which these states say."""
_SAMPLE = 16
"""Every so many events, or inboxes, the time that the coordinator takes is measured, which takes some itself."""
_MARGIN = 4096
"""Bytes that an answer leaves free below the largest one."""
_SMALL = 64
"""Bytes of a message without contents worth counting."""
_CHANGED = 0.02
"""Part by which a rate must change to be told."""


@dataclass(slots=True)
class Tally:
    """What the nodes of a run have in common to count."""

    staleness: float = 0.0
    applied: int = 0
    events: int = 0
    inboxes: int = 0
    seconds: float = 0.0
    """In coordinators, estimated from a sample."""


@dataclass(frozen=True, slots=True)
class World:
    """What all nodes of a run share."""

    agenda: Agenda
    network: Network
    gossip: Gossip
    crew: Crew[Any]
    shared: Shared
    tally: Tally
    topic: str
    tick: float
    boot: float
    settings: Settings


class Node:
    """A node from its start to its end; its disk, given to another one, outlives it.

    Args:
        world: what it shares with the others.
        place: which line it is on.
        number: which trainer of the crew it has.
        key: its identity.
        clock, disk: its own.
        speed: local steps a second.
        attack: what it does instead of being honest.
        on_leave: told when it has left by itself.
    """

    def __init__(
        self,
        world: World,
        place: int,
        number: int,
        key: SigningKey,
        clock: Clock,
        disk: Disk,
        speed: float,
        attack: Attack | None = None,
        on_leave: Callable[[Node], None] | None = None,
    ) -> None:
        self.world, self.place, self.number, self.clock, self.disk = world, place, number, clock, disk
        self.agenda = world.agenda
        self.author = bytes(key.verify_key)
        self.gone = False
        self.published = 0
        self.attack = attack
        self.notices: list[str] = []
        self._sign = wire.signer(key)
        self._speed = speed
        self._on_leave = on_leave
        self.coordinator = Coordinator(
            self.author, self._sign, world.topic, world.settings, open_envelope=world.shared.open
        )
        self.trainer: Trainer | None = None
        self.books = Books()
        self._rounds: Rounds | None = None
        self._share = 1.0
        self._mode = actions.Mode.PAUSE
        self._loads = 0
        self._rate = 0.0
        self._heard: list[Heard] = []
        self.inbox: list[Letter] = []
        """What gossip has brought, with its moment, and nobody has looked at."""
        self._ticking = 0
        self._began = world.agenda.now
        self._next_tick = 0.0

    # --- its life

    def start(self) -> None:
        """The daemon starts; its trainer says hello a little later."""
        self.handle(
            events.Listening((f"/ip4/10.{self.place >> 16}.{self.place >> 8 & 255}.{self.place & 255}/tcp/4117",))
        )
        self.world.network.come(self)
        self.agenda.after(self.world.boot if self.agenda.now >= _FIRST else min(_FIRST, self.world.boot), self._hello)
        self._tick(self._ticking)

    def stop(self, *, announced: bool) -> None:
        """The daemon ends, with a goodbye or without: then what was not saved is lost."""
        if announced:
            if self.trainer is not None:
                self._checkpoint()
            self._beat(self.coordinator.farewell(self.clock.read(self.agenda.now)))
        self.gone = True
        if self._rounds is not None:
            self._rounds.stop()
        self.world.network.go(self, announced=announced)

    def retire(self) -> None:
        """Nothing of it is wanted any more. What refers to each other is taken apart: then it is freed at once."""
        self._rounds = None
        self._on_leave = None
        self.inbox.clear()
        if self.trainer is not None:
            self.world.crew.retire(self.trainer)
            self.trainer = None

    def handle(self, event: events.Event) -> None:
        """Let the coordinator know, and do what it wants: first what must be durable."""
        if self.gone:
            return
        if self.inbox:
            self.read_inbox()
        now, tally = self.clock.read(self.agenda.now), self.world.tally
        tally.events += 1
        if tally.events % _SAMPLE:
            todo = self.coordinator.handle(event, now)
        else:
            began = time.process_time()
            todo = self.coordinator.handle(event, now)
            tally.seconds += _SAMPLE * (time.process_time() - began)
        if type(event) is events.PeerConnected:
            self._hurry()
        if todo:
            self._carry_out(todo)

    def read_inbox(self) -> None:
        """Handle what gossip has brought, each message as of the moment at which it came."""
        now, tally, read, handle = self.agenda.now, self.world.tally, self.clock.read, self.coordinator.handle
        came = sorted(self.inbox, key=itemgetter(0))
        self.inbox = [letter for letter in came if letter[0] > now] if came and came[-1][0] > now else []
        tally.events += len(came)
        tally.inboxes += 1
        measured = not tally.inboxes % _SAMPLE
        began = time.process_time() if measured else 0.0
        for moment, event, fate in came:
            if moment > now:
                break
            if fate.void <= now:
                continue
            todo = handle(event, read(moment))
            if todo:
                self._carry_out(todo)
        if measured:
            tally.seconds += _SAMPLE * (time.process_time() - began)

    def _carry_out(self, todo: list[actions.Action]) -> None:
        if len(todo) > 1:
            for action in todo:
                keep = _DONE.get(type(action))
                if keep is not None:
                    keep(self, action)
        elif type(todo[0]) is actions.LearnAddresses:  # by far the most frequent one, of no use here
            return
        elif type(todo[0]) in _DONE:
            _DONE[type(todo[0])](self, todo[0])
            return
        for action in todo:
            perform = _PERFORMED.get(type(action))
            if perform is not None:
                perform(self, action)

    def _tick(self, ticking: int) -> None:
        if self.gone or ticking != self._ticking:
            return
        self.handle(events.Tick())
        period = self.world.tick
        if period > _BRISK:
            # Whoever has just come has much to do, and a tick costs the more the more nodes there are.
            early = self._mode is not actions.Mode.TRAIN and self._state() in _EARLY
            period = min(period, _BRISK if early else max(_BRISK, self.agenda.now - self._began))
        self._next_tick = self.agenda.now + period
        self.agenda.at(self._next_tick, self._tick, self._ticking)
        self._hurry()

    def _state(self) -> str:
        return self.coordinator.state(self.clock.read(self.agenda.now))

    def _hurry(self) -> None:
        """Tick in time for the next heartbeat."""
        wanted = self.clock.when(self.coordinator.next_heartbeat)
        if self.agenda.now < wanted < self._next_tick:
            self._ticking += 1
            self._next_tick = wanted
            self.agenda.at(wanted, self._tick, self._ticking)

    def _later(self, event: events.Event, delay: float = 0.0) -> None:
        self.agenda.after(delay, self.handle, event)

    # --- the trainer

    def _hello(self) -> None:
        if self.gone:
            return
        crew = self.world.crew
        self.trainer = crew.trainer(self.number)
        genesis = crew.genesis
        shared = self.world.shared
        self.disk.snapshots.setdefault(genesis.weights, shared.kept(genesis.weights, self.trainer.replica.copy()))
        if self.disk.checkpoint is not None:
            self.books = self.disk.checkpoint.books.copy()
            self.trainer.load_state(self.disk.checkpoint.state)
        self._rounds = Rounds(self, self.trainer, self._speed, genesis.slot_seconds, genesis.round_steps)
        own = genesis.swarm_id(self.world.topic)
        applied = tuple(self.books.applied.values())
        outbox = self.books.outbox
        if outbox is not None:
            self._rounds.hand_in()
        self.handle(
            events.TrainerReady(
                genesis, self.books.base, self.books.total, applied, self.books.own_seq, self.disk.kept(own)
            )
        )
        if outbox is not None and self.books.outbox is outbox:
            self._hand_in(*outbox)

    def close_round(self) -> bool:
        """The local steps are done: encode them and hand them in."""
        assert self.trainer is not None
        try:
            done: Round | None = self.trainer.finish_round(self._share)
        except LearnerError:
            return False
        if self.attack is not None and done is not None:
            done = self.attack.round(self.trainer, done, self._heard, self._share)
            self._heard = []
        if done is None:
            self.trainer.restart_round()
            return False
        self.books.outbox = (done, self._share, self.books.own_seq)
        self._checkpoint()
        self._hand_in(*self.books.outbox)
        return True

    def _hand_in(self, done: Round, share: float, after: int) -> None:
        self.handle(
            events.RoundFinished(tuple(done.parts), done.samples, share, done.norm, done.loss, after, self._loads)
        )

    def report(self, rate: float) -> None:
        """The trainer's speed; in steps, of which every node of a run makes equal ones."""
        if abs(rate - self._rate) > _CHANGED * rate:
            self._rate = rate
            self.handle(events.Progress(rate))

    def finished(self) -> None:
        """The last round is over."""
        self.handle(events.TrainerFinished())

    def _checkpoint(self) -> None:
        assert self.trainer is not None
        self.disk.checkpoint = Checkpoint(self.books.copy(), self.trainer.state())

    # --- what must be durable

    def _store(self, action: actions.Store) -> None:
        signed = self.world.shared.open(wire.Update, action.envelope)
        self.disk.dropped.pop(signed.digest, None)
        self.disk.updates[signed.digest] = signed
        for block in action.blocks:
            self.disk.blocks[sharing.block(block)] = block
        if signed.author == self.author:
            self.disk.own_seq = max(self.disk.own_seq, signed.message.seq)
        elif self._mode is actions.Mode.TRAIN and self.attack is None:
            slot = int(self.clock.read(self.agenda.now) // self.world.crew.genesis.slot_seconds)
            self.world.tally.staleness += max(0, slot - signed.message.slot)
            self.world.tally.applied += 1

    def _drop(self, action: actions.Drop) -> None:
        for entry in action.entries:
            stored = self.disk.updates.pop(entry.digest, None)
            if stored is not None:
                self.disk.dropped[entry.digest] = stored

    def _keep_cut(self, action: actions.KeepCut) -> None:
        self.disk.manifests[action.cut.cid] = (action.swarm, action.cut, action.data)

    def _settle(self, action: actions.Settle) -> None:
        self.disk.settled[action.cut.cid] = action.cut

    def _prune(self, action: actions.Prune) -> None:
        self.disk.prune(action)

    def _go_over(self, action: actions.GoOver) -> None:
        self.disk.adopted[action.own] = (action.swarm, action.genesis)

    # --- what the trainer is told

    def _apply(self, action: actions.Apply) -> None:
        entry, books, trainer = action.entry, self.books, self.trainer
        assert trainer is not None and self._rounds is not None
        if entry.digest in books.applied:
            return
        world = self.world
        payload = world.shared.payload(trainer, entry.digest, entry.norm, self.disk.parts)
        self._rounds.catch_up()
        sound = trainer.apply(payload, entry.samples, action.ratio)
        self._rounds.added()
        books.applied[entry.digest] = sharing.line(entry, action.ratio)
        if entry.author == self.author:
            books.own_seq = max(books.own_seq, entry.seq)
        elif self.attack is not None and sound:
            self._heard.append(Heard(payload, entry.norm, entry.slot))
        if not sound:
            books.void.add(entry.digest)
            self._later(events.PayloadVoid(entry.id))

    def _unapply(self, action: actions.Unapply) -> None:
        entry = action.entry
        row = self.books.applied.pop(entry.digest, None)
        if row is None or self.trainer is None or self._rounds is None:
            return
        if entry.digest in self.books.void:
            self.books.void.discard(entry.digest)
            return
        self._rounds.catch_up()
        payload = self.world.shared.payload(self.trainer, entry.digest, entry.norm, self.disk.parts)
        self.trainer.remove(payload, entry.samples, row.ratio)

    def _accept(self, action: actions.Accept) -> None:
        """Theta := phi at any rate; the round is in the replica, or will never be."""
        books, entry = self.books, action.entry
        assert self.trainer is not None and self._rounds is not None
        books.own_seq = max(books.own_seq, action.own_seq, entry.seq if entry is not None else 0)
        if books.outbox is None or entry is None or entry.digest in books.applied:
            self.trainer.restart_round()
        else:
            done = books.outbox[0]
            payload = self.world.shared.payload(self.trainer, entry.digest, entry.norm, self.disk.parts)
            if payload.void is None:
                self.trainer.accept(payload, done.samples, action.ratio)
            else:
                self.trainer.restart_round()
                books.void.add(entry.digest)
            books.applied[entry.digest] = sharing.line(entry, action.ratio)
        books.outbox = None
        self._rounds.answered()

    def _take_cut(self, action: actions.TakeCut) -> None:
        assert self.trainer is not None
        shared, books = self.world.shared, self.books
        minus = [
            (shared.payload(self.trainer, entry.digest, entry.norm, self.disk.parts), books.applied[entry.digest].ratio)
            for entry in action.minus
            if entry.digest in books.applied and entry.digest not in books.void
        ]
        copy = self.trainer.without(minus)
        root = shared.root(copy)
        self.disk.snapshots[root.cid] = shared.kept(root.cid, copy)
        self._later(events.CutTaken(action.index, action.token, root.cid, root.size), _WRITING)

    def _forget(self, action: actions.Forget) -> None:
        self.books.stand_on(action.base, action.total, action.slot)

    def _load(self, action: actions.LoadCut) -> None:
        assert self.trainer is not None
        self.trainer.load(self.disk.snapshots[action.weights].copy(), action.samples)
        self.books.stand_on(action.base, action.total)
        self.books.outbox = None
        self._loads += 1
        self._checkpoint()

    def _train(self, action: actions.Train) -> None:
        assert self._rounds is not None
        self._mode = action.mode
        self._rounds.set_mode(action.mode)

    def _set_share(self, action: actions.SetShare) -> None:
        self._share = action.share

    # --- what others are told and asked

    def _publish(self, action: actions.PublishUpdate) -> None:
        self.published += 1
        envelopes: Sequence[bytes] = (action.envelope,)
        if self.attack is not None:
            envelopes = self.attack.publish(self.author, self._sign, action.envelope)
        for envelope in envelopes:
            self.world.gossip.publish(self, events.UpdateHeard, envelope)

    def _beat(self, action: actions.PublishHeartbeat) -> None:
        self.world.gossip.publish(self, events.HeartbeatHeard, action.envelope)

    def _sync(self, action: actions.Sync) -> None:
        request = action.request
        size = vector_size(request.vector) + 44 * len(request.sums) + _SMALL

        def hear(reply: SyncReply | None) -> None:
            self.handle(events.SyncReplied(action.peer, reply))

        self.world.network.ask(self, action.peer, size, lambda peer: peer.answer(request), hear)

    def answer(self, request: SyncRequest) -> tuple[SyncReply, int]:
        """What the asker lacks, as much as fits into a reply, and how large that is."""
        self.read_inbox()
        ledger = self.coordinator.ledger
        if ledger is None or ledger.swarm != request.swarm:
            return SyncReply(VersionVector(), (), more=False), _SMALL
        vector = ledger.vector.copy()
        room = wire.MAX_REPLY - _MARGIN - vector_size(vector)
        missing = ledger.missing_at(request)
        envelopes: list[bytes] = []
        for entry in missing[: wire.MAX_ENVELOPES]:
            envelope = self.disk.updates[entry.digest].envelope
            room -= len(envelope) + 5
            if room < 0:
                break
            envelopes.append(envelope)
        size = sum(map(len, envelopes)) + vector_size(vector) + _SMALL
        return SyncReply(vector, tuple(envelopes), more=len(envelopes) < len(missing)), size

    def _fetch(self, action: actions.Fetch) -> None:
        wanted = [part for part in action.parts if part.cid not in self.disk.blocks]

        def serve(peer: Node) -> tuple[dict[bytes, bytes], int]:
            found = {part.cid: peer.disk.blocks[part.cid] for part in wanted if part.cid in peer.disk.blocks}
            return found, sum(map(len, found.values())) + _SMALL

        def hear(found: dict[bytes, bytes] | None) -> None:
            self.disk.blocks.update(found or {})
            complete = all(part.cid in self.disk.blocks for part in action.parts)
            self.handle(events.BlocksFetched(action.digest, action.peer, complete))

        self.world.network.ask(self, action.peer, _SMALL + 40 * len(wanted), serve, hear)

    def _ask_genesis(self, action: actions.AskGenesis) -> None:
        def hear(genesis: Genesis | None) -> None:
            self.handle(events.GenesisHeard(action.peer, genesis))

        self.world.network.ask(self, action.peer, _SMALL, lambda peer: (peer.coordinator.genesis, 300), hear)

    def _fetch_manifest(self, action: actions.FetchManifest) -> None:
        def serve(peer: Node) -> tuple[bytes | None, int]:
            kept = peer.disk.manifests.get(action.cid)
            return (kept[2], len(kept[2]) + _SMALL) if kept is not None else (None, _SMALL)

        def hear(data: bytes | None) -> None:
            self.handle(events.ManifestFetched(action.peer, action.cid, data))

        self.world.network.ask(self, action.peer, _SMALL + 40, serve, hear)

    def _fetch_snapshot(self, action: actions.FetchSnapshot) -> None:
        network = self.world.network
        found = [node for key in action.holders if isinstance(node := network.find(self, key), Node)]
        holders = [node for node in found if action.weights in node.disk.snapshots][:_HOLDERS]
        if not holders:
            self._later(events.SnapshotFetched(action.weights, ok=False), _WAIT)
            return
        replica = holders[0].disk.snapshots[action.weights]
        size = self.world.shared.root(replica).size
        here = max(network.bring(self, holder, size // len(holders)) for holder in holders)

        def arrived() -> None:
            if not self.gone:
                self.disk.snapshots[action.weights] = replica
                self.handle(events.SnapshotFetched(action.weights, ok=True))

        self.agenda.at(here, arrived)

    def _notice(self, action: actions.Notice) -> None:
        if action.level == "warning":
            self.notices.append(action.text)

    def _leave(self, action: actions.Leave) -> None:
        if self._on_leave is not None:
            self.agenda.after(0.0, self._on_leave, self)


def vector_size(vector: VersionVector) -> int:
    """About how many bytes a version vector has on the wire: a key and mostly one pair of small numbers per author."""
    return 41 * len(vector.authors) + 3


_DONE: dict[type[actions.Action], Callable[[Node, Any], None]] = {
    actions.Store: Node._store,
    actions.Drop: Node._drop,
    actions.KeepCut: Node._keep_cut,
    actions.Settle: Node._settle,
    actions.Prune: Node._prune,
    actions.GoOver: Node._go_over,
}
"""What must be durable before anything else is done."""
_PERFORMED: dict[type[actions.Action], Callable[[Node, Any], None]] = {
    actions.Apply: Node._apply,
    actions.Unapply: Node._unapply,
    actions.Accept: Node._accept,
    actions.TakeCut: Node._take_cut,
    actions.Forget: Node._forget,
    actions.LoadCut: Node._load,
    actions.PublishUpdate: Node._publish,
    actions.PublishHeartbeat: Node._beat,
    actions.Sync: Node._sync,
    actions.Fetch: Node._fetch,
    actions.AskGenesis: Node._ask_genesis,
    actions.FetchManifest: Node._fetch_manifest,
    actions.FetchSnapshot: Node._fetch_snapshot,
    actions.Train: Node._train,
    actions.SetShare: Node._set_share,
    actions.Notice: Node._notice,
    actions.Leave: Node._leave,
}
