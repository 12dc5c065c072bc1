"""An in-memory swarm: real coordinators, a virtual clock, a lossy network and trainers whose model is one number."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from nacl.signing import SigningKey

from learnae import wire
from learnae.cid import raw_cid
from learnae.coordinator import Coordinator, Settings, actions, events
from learnae.genesis import Genesis
from learnae.layout import Layout, TensorSpec
from learnae.ledger import Applied, Entry, Kept
from learnae.manifest import ZERO
from learnae.rules import Rules
from learnae.wire import CutId, SyncReply

SLOT = 1.0
START = 1_000_000.0
RULES = Rules()
MODULUS = 2**64


def snapshot(value: int) -> bytes:
    """The CID of the snapshot of a trainer whose model is this number."""
    return raw_cid(value.to_bytes(8))


def genesis(width: int = 4, slot_seconds: float = SLOT, start: int = 0, rules: Rules = RULES) -> Genesis:
    """A genesis whose initial model is the number `start`."""
    layout = Layout((TensorSpec("weight", (width, 4), "float32"),))
    return Genesis(layout, (-24,), snapshot(start), slot_seconds, 10, rules)


def worth(digest: bytes, ratio: int) -> int:
    """What an update adds to the number."""
    return int.from_bytes(digest[:4]) * ratio >> 16


@dataclass
class Faults:
    """What the network does to messages; probabilities from 0 to 1, delays in seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay: tuple[float, float] = (0.01, 0.1)
    exchange_failure: float = 0.0


@dataclass
class Trainer:
    """What the trainer process keeps, as its checkpoint does."""

    value: int = 0
    base: bytes | None = None
    total: bytes = ZERO
    applied: dict[bytes, Applied] = field(default_factory=dict)
    own_seq: int = 0

    def copy(self) -> Trainer:
        return replace(self, applied=dict(self.applied))

    def add(self, entry: Entry, ratio: int) -> None:
        assert entry.digest not in self.applied, "applied twice"
        self.applied[entry.digest] = Applied(entry.author, entry.seq, entry.digest, entry.slot, ratio)
        self.value = (self.value + worth(entry.digest, ratio)) % MODULUS

    def remove(self, entry: Entry) -> None:
        gone = self.applied.pop(entry.digest, None)
        if gone is not None:
            self.value = (self.value - worth(entry.digest, gone.ratio)) % MODULUS

    def without(self, entries: tuple[Entry, ...]) -> int:
        known = [self.applied[entry.digest] for entry in entries if entry.digest in self.applied]
        return (self.value - sum(worth(a.digest, a.ratio) for a in known)) % MODULUS

    def forget(self, action: actions.Forget) -> None:
        self.applied = {digest: a for digest, a in self.applied.items() if a.slot > action.slot}
        self.base, self.total = action.base, action.total


@dataclass
class Disk:
    """What survives a crash of a node."""

    updates: dict[bytes, actions.Store] = field(default_factory=dict)
    """The updates in the ledgers, by digest."""
    dropped: dict[bytes, actions.Store] = field(default_factory=dict)
    manifests: dict[bytes, tuple[bytes, CutId, bytes]] = field(default_factory=dict)
    """Swarm, name and bytes of each manifest, by CID."""
    settled: dict[bytes, CutId] = field(default_factory=dict)
    floors: dict[bytes, CutId] = field(default_factory=dict)
    adopted: dict[bytes, tuple[bytes, Genesis]] = field(default_factory=dict)
    own_seq: int = 0
    snapshots: dict[bytes, int] = field(default_factory=dict)
    trainer: Trainer = field(default_factory=Trainer)
    seqs: set[int] = field(default_factory=set)
    """Every number ever announced by this node."""

    def kept(self, own: bytes) -> Kept:
        swarm, adopted = self.adopted.get(own, (own, None))
        floor = self.floors.get(swarm)
        settled = sorted(
            (cut for cid, cut in self.settled.items() if self.manifests[cid][0] == swarm), key=lambda cut: cut.index
        )
        return Kept(
            entries=tuple(s.entry for s in self.updates.values() if s.swarm == swarm),
            dropped=tuple(s.entry for s in self.dropped.values() if s.swarm == swarm),
            floor=self.manifests[floor.cid][2] if floor else None,
            settled=tuple(settled),
            manifests=tuple(self.manifests[cut.cid][2] for cut in settled),
            own_seq=self.own_seq,
            snapshots=frozenset(self.snapshots),
            adopted=adopted,
        )


class Node:
    """A coordinator with the least around it: a disk, and a trainer."""

    def __init__(self, swarm: Swarm, key: SigningKey, start: Genesis, disk: Disk, skew: float) -> None:
        self.swarm, self.key, self.genesis, self.disk, self.skew = swarm, key, start, disk, skew
        self.author = bytes(key.verify_key)
        self.coordinator = Coordinator(self.author, wire.signer(key), "topic", swarm.settings)
        self.trainer = disk.trainer.copy()
        self.mode = actions.Mode.PAUSE
        self.share = 0.0
        self.left = False
        self.cramped = False
        """There is no room on its disk for snapshots."""
        self.notices: list[str] = []
        self.pending: tuple[bytes, ...] | None = None
        self.rounds = 0
        self.loads = 0
        self.blocks: dict[bytes, bytes] = {}
        """Parts of updates that were fetched, by CID."""

    def boot(self) -> None:
        """The trainer says hello."""
        state = self.trainer
        own = self.genesis.swarm_id("topic")
        if state.base is None and not state.applied:
            state.value = self.swarm.values[self.genesis.weights]
        self.disk.snapshots[self.genesis.weights] = self.swarm.values[self.genesis.weights]
        self.loads = 0
        self.handle(
            events.TrainerReady(
                self.genesis,
                state.base,
                state.total,
                tuple(state.applied.values()),
                state.own_seq,
                self.disk.kept(own),
            )
        )

    def restart_trainer(self) -> None:
        """The trainer process dies and comes back with its last checkpoint."""
        self.handle(events.TrainerLost())
        self.trainer, self.pending = self.disk.trainer.copy(), None
        self.boot()

    def checkpoint(self) -> None:
        """The trainer saves its state."""
        self.disk.trainer = self.trainer.copy()

    def now(self) -> float:
        return self.swarm.now + self.skew

    def handle(self, event: events.Event) -> None:
        if self.left:
            return
        todo = self.coordinator.handle(event, self.now())
        # As the daemon does: all that must be durable first, in one transaction.
        for action in todo:
            self.keep(action)
        for action in todo:
            self.perform(action)

    def train(self) -> None:
        """Finish a round, if the trainer is at work."""
        if self.mode is actions.Mode.TRAIN and self.pending is None:
            self.rounds += 1
            size = 5000 if self.swarm.random.random() < self.swarm.large else 50
            self.pending = (self.swarm.random.randbytes(size),)
            self.finish_round(self.pending)

    def finish_round(self, parts: tuple[bytes, ...], after: int | None = None) -> None:
        after = self.trainer.own_seq if after is None else after
        norm = self.share * self.swarm.random.uniform(0.5, 2.0)
        self.handle(events.RoundFinished(parts, 7, self.share, norm, 0.5, after, self.loads))

    def keep(self, action: actions.Action) -> None:
        match action:
            case actions.Store():
                digest = action.entry.digest
                assert digest not in self.disk.updates, "stored twice"
                self.disk.dropped.pop(digest, None)
                parts = wire.open_envelope(wire.Update, action.envelope).message.parts
                blocks = action.blocks or tuple(self.blocks[part.cid] for part in parts)
                self.disk.updates[digest] = replace(action, blocks=blocks)
                if action.entry.author == self.author:
                    self.disk.own_seq = max(self.disk.own_seq, action.entry.seq)
            case actions.Drop():
                for entry in action.entries:
                    self.disk.dropped[entry.digest] = self.disk.updates.pop(entry.digest)
            case actions.KeepCut():
                self.disk.manifests[action.cut.cid] = (action.swarm, action.cut, action.data)
            case actions.Settle():
                self.disk.settled[action.cut.cid] = action.cut
            case actions.Prune():
                self.prune(action)
            case actions.GoOver():
                self.disk.adopted[action.own] = (action.swarm, action.genesis)

    def prune(self, action: actions.Prune) -> None:
        disk = self.disk
        disk.floors[action.swarm] = action.floor
        assert action.own_seq >= disk.own_seq
        disk.own_seq = action.own_seq
        for kept in (disk.updates, disk.dropped):
            for digest in [d for d, s in kept.items() if s.swarm == action.swarm and s.entry.slot <= action.slot]:
                del kept[digest]
        for cid, (swarm, cut, _) in list(disk.manifests.items()):
            if swarm == action.swarm and (
                cut.index < action.floor.index or (cut.index == action.floor.index and cid != action.floor.cid)
            ):
                del disk.manifests[cid]
                disk.settled.pop(cid, None)
        disk.snapshots = {cid: value for cid, value in disk.snapshots.items() if cid in action.snapshots}

    def perform(self, action: actions.Action) -> None:
        match action:
            case actions.Apply():
                stored = action.entry.digest in self.disk.updates or action.entry.digest in self.disk.dropped
                assert stored, "applied before it was stored"
                self.trainer.add(action.entry, action.ratio)
                if action.entry.author == self.author:
                    self.trainer.own_seq = max(self.trainer.own_seq, action.entry.seq)
            case actions.Unapply():
                self.trainer.remove(action.entry)
            case actions.Accept():
                self.pending = None
                self.trainer.own_seq = max(self.trainer.own_seq, action.own_seq)
                if action.entry is not None:
                    self.trainer.own_seq = max(self.trainer.own_seq, action.entry.seq)
                    if action.entry.digest not in self.trainer.applied:
                        self.trainer.add(action.entry, action.ratio)
            case actions.TakeCut() if self.cramped:
                refused = events.CutTaken(action.index, action.token, None, 0)
                self.swarm.later(0.1, self, lambda: self.handle(refused))
            case actions.TakeCut():
                value = self.trainer.without(action.minus)
                self.disk.snapshots[snapshot(value)] = self.swarm.values[snapshot(value)] = value
                taken = events.CutTaken(action.index, action.token, snapshot(value), 8)
                self.swarm.later(self.swarm.random.uniform(0.0, 0.3), self, lambda: self.handle(taken))
            case actions.Forget():
                self.trainer.forget(action)
            case actions.LoadCut():
                self.loads += 1
                self.trainer = Trainer(
                    self.disk.snapshots[action.weights], action.base, action.total, {}, self.trainer.own_seq
                )
                self.checkpoint()
            case actions.PublishUpdate():
                self.announce(action)
            case actions.PublishHeartbeat():
                self.swarm.spread(self, events.HeartbeatHeard, action.envelope)
            case actions.Sync():
                self.swarm.exchange(self, action.peer, lambda peer: self.sync(peer, action))
            case actions.Fetch():
                self.swarm.exchange(self, action.peer, lambda peer: self.fetch(peer, action))
            case actions.FetchManifest():
                self.swarm.exchange(self, action.peer, lambda peer: self.fetch_manifest(peer, action))
            case actions.FetchSnapshot():
                holder = self.swarm.random.choice(action.holders)
                self.swarm.exchange(self, holder, lambda peer: self.fetch_snapshot(peer, action))
            case actions.AskGenesis():
                self.swarm.exchange(
                    self,
                    action.peer,
                    lambda peer: events.GenesisHeard(action.peer, peer.coordinator.genesis if peer else None),
                )
            case actions.Train():
                self.mode = action.mode
                if action.mode is actions.Mode.FINISH:
                    self.swarm.later(0.0, self, lambda: self.handle(events.TrainerFinished()))
            case actions.SetShare():
                self.share = action.share
            case actions.Notice():
                self.notices.append(action.text)
            case actions.Leave():
                self.left = True

    def announce(self, action: actions.PublishUpdate) -> None:
        signed = wire.open_envelope(wire.Update, action.envelope)
        assert signed.message.seq not in self.disk.seqs, "a number was used twice"
        self.disk.seqs.add(signed.message.seq)
        self.swarm.spread(self, events.UpdateHeard, action.envelope)

    def sync(self, peer: Node | None, action: actions.Sync) -> events.Event:
        ledger = peer.coordinator.ledger if peer is not None else None
        if peer is None or ledger is None or ledger.swarm != action.request.swarm:
            return events.SyncReplied(action.peer, None)
        missing = ledger.missing_at(action.request)
        envelopes = tuple(peer.disk.updates[entry.digest].envelope for entry in missing[:100])
        return events.SyncReplied(action.peer, SyncReply(ledger.vector.copy(), envelopes, len(missing) > 100))

    def fetch(self, peer: Node | None, action: actions.Fetch) -> events.Event:
        stored = peer.find(action.digest) if peer is not None else None
        if peer is not None and peer.swarm.random.random() < peer.swarm.lies:
            return events.BlocksFetched(action.digest, action.peer, complete=False, lied=True)
        found = stored is not None and {raw_cid(b) for b in stored.blocks} >= {part.cid for part in action.parts}
        if stored is not None and found:
            self.blocks.update((raw_cid(block), block) for block in stored.blocks)
        return events.BlocksFetched(action.digest, action.peer, complete=found)

    def find(self, digest: bytes) -> actions.Store | None:
        return self.disk.updates.get(digest)

    def fetch_manifest(self, peer: Node | None, action: actions.FetchManifest) -> events.Event:
        data = peer.disk.manifests.get(action.cid) if peer is not None else None
        lie = peer is not None and peer.swarm.random.random() < peer.swarm.lies
        return events.ManifestFetched(action.peer, action.cid, b"lie" if lie else data[2] if data else None)

    def fetch_snapshot(self, peer: Node | None, action: actions.FetchSnapshot) -> events.Event:
        value = peer.disk.snapshots.get(action.weights) if peer is not None else None
        if value is not None:
            self.disk.snapshots[action.weights] = value
        return events.SnapshotFetched(action.weights, value is not None)

    @property
    def ids(self) -> set[tuple[bytes, int]]:
        """The updates on disk."""
        return {stored.entry.id for stored in self.disk.updates.values()}

    @property
    def newest(self) -> CutId | None:
        """The newest cut that this node attests."""
        cuts = self.coordinator.statistics(self.now()).cuts
        return cuts.newest if cuts is not None else None

    def expected(self) -> int:
        """What the model must be, from the definition: genesis plus each update by its part."""
        ledger = self.coordinator.ledger
        assert ledger is not None
        if ledger.floor is None:
            assert self.coordinator.genesis is not None
            start = self.swarm.values[self.coordinator.genesis.weights]
        else:
            start = self.swarm.values[ledger.floor.weights]
        return (start + sum(worth(e.digest, ledger.ratio(e)) for e in ledger.entries())) % MODULUS


class Swarm:
    """Nodes on one topic under a virtual clock; deterministic from the seed."""

    def __init__(self, seed: int = 0, faults: Faults | None = None, *, large: float = 0.2, lies: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.faults = faults or Faults()
        self.settings = Settings()
        self.now = START
        self.tick = 0.25
        self.large, self.lies = large, lies
        self.nodes: dict[bytes, Node] = {}
        self.disks: dict[bytes, Disk] = {}
        self.sides: dict[bytes, int] = {}
        self.values: dict[bytes, int] = {snapshot(n): n for n in range(10)}
        """The numbers behind all snapshots that ever were, by CID."""
        self._queue: list[tuple[float, int, Node, Callable[[], None]]] = []
        self._count = 0

    def add(self, number: int, start: Genesis | None = None, skew: float = 0.0) -> Node:
        """Start the node with this number, on its old disk if it ran before."""
        key = SigningKey(number.to_bytes(32))
        author = bytes(key.verify_key)
        node = Node(self, key, start or genesis(), self.disks.setdefault(author, Disk()), skew)
        self.nodes[author] = node
        for other in self.nodes.values():
            if other is not node:
                node.handle(events.PeerConnected(other.author))
                other.handle(events.PeerConnected(author))
        node.boot()
        return node

    def crash(self, node: Node) -> None:
        """The node is gone; its disk stays."""
        node.left = True
        self.nodes.pop(node.author, None)
        for other in self.nodes.values():
            other.handle(events.PeerDisconnected(node.author))

    def reachable(self, one: Node, other: Node | None) -> bool:
        if other is None or one.left or other.left:
            return False
        return self.sides.get(one.author, 0) == self.sides.get(other.author, 0)

    def later(self, delay: float, node: Node, call: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay, self._count, node, call))

    def spread(self, source: Node, kind: Callable[[bytes, bytes], events.Event], envelope: bytes) -> None:
        for other in list(self.nodes.values()):
            if other is source or not self.reachable(source, other):
                continue
            copies = 0 if self.random.random() < self.faults.loss else 1
            copies += self.random.random() < self.faults.duplicate
            for _ in range(copies):
                event = kind(envelope, source.author)
                self.later(self.random.uniform(*self.faults.delay), other, lambda o=other, e=event: o.handle(e))  # type: ignore[misc]

    def exchange(self, source: Node, peer: bytes, answer: Callable[[Node | None], events.Event]) -> None:
        def run() -> None:
            other = self.nodes.get(peer)
            failed = self.random.random() < self.faults.exchange_failure or not self.reachable(source, other)
            source.handle(answer(None if failed else other))

        self.later(self.random.uniform(*self.faults.delay), source, run)

    def run(self, seconds: float, *, train: bool = True) -> None:
        """Let time pass; every node finishes a round in each slot, and saves its trainer's state now and then."""
        end = self.now + seconds
        while self.now < end:
            step = min(self.tick, end - self.now)
            target = self.now + step
            while self._queue and self._queue[0][0] <= target:
                at, _, node, call = heapq.heappop(self._queue)
                self.now = max(self.now, at)
                if not node.left:
                    call()
            self.now = target
            for node in list(self.nodes.values()):
                node.handle(events.Tick())
                if train and int(self.now / SLOT) != int((self.now - step) / SLOT):
                    node.train()
                    if self.random.random() < 0.3:
                        node.checkpoint()

    def agree(self) -> bool:
        """All hold the same updates, attest the same cut, and have the weights that follow from them."""
        exact = all(node.trainer.value == node.expected() for node in self.nodes.values())
        return exact and len(self.digests()) == len(self.totals()) == len(self.cuts()) == 1

    def digests(self) -> set[bytes]:
        return {n.coordinator.ledger.digest for n in self.nodes.values() if n.coordinator.ledger is not None}

    def cuts(self) -> set[CutId | None]:
        """The newest cuts that the nodes attest."""
        return {node.newest for node in self.nodes.values()}

    def totals(self) -> set[int]:
        return {node.trainer.value for node in self.nodes.values()}
