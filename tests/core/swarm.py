"""An in-memory swarm: real coordinators, a virtual clock, a lossy network and trainers that only count."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from nacl.signing import SigningKey

from learnae import wire
from learnae.coordinator import Coordinator, Settings, actions, events
from learnae.genesis import Genesis
from learnae.layout import Layout, TensorSpec
from learnae.ledger import Entry
from learnae.vector import UpdateId, VersionVector
from learnae.wire import SyncReply

SLOT = 1.0
START = 1_000_000.0


def genesis(width: int = 4, slot_seconds: float = SLOT) -> Genesis:
    layout = Layout((TensorSpec("weight", (width, 4), "float32"),))
    return Genesis(layout, (-24,), bytes(32), slot_seconds, 10)


@dataclass
class Faults:
    """What the network does to messages; probabilities from 0 to 1, delays in seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay: tuple[float, float] = (0.01, 0.1)
    exchange_failure: float = 0.0


@dataclass
class Disk:
    """What survives a crash of a node."""

    updates: dict[UpdateId, actions.Store] = field(default_factory=dict)
    applied: VersionVector = field(default_factory=VersionVector)
    total: int = 0


class Node:
    """A coordinator with the least around it: a disk, and a trainer whose model is one integer."""

    def __init__(self, swarm: Swarm, key: SigningKey, start: Genesis, disk: Disk, skew: float) -> None:
        self.swarm, self.key, self.genesis, self.disk, self.skew = swarm, key, start, disk, skew
        self.author = bytes(key.verify_key)
        self.coordinator = Coordinator(self.author, wire.signer(key), "topic", swarm.settings)
        self.mode = actions.Mode.PAUSE
        self.share = 0.0
        self.left = False
        self.notices: list[str] = []
        self.applied_twice = 0
        self.pending: tuple[bytes, ...] | None = None
        self.rounds = 0

    def boot(self) -> None:
        entries = tuple(
            Entry(s.author, s.update.seq, s.update.slot, s.update.samples, s.digest) for s in self.disk.updates.values()
        )
        self.handle(events.TrainerReady(self.genesis, self.disk.applied.copy(), entries))

    def now(self) -> float:
        return self.swarm.now + self.skew

    def handle(self, event: events.Event) -> None:
        if self.left:
            return
        for action in self.coordinator.handle(event, self.now()):
            self.perform(action)

    def train(self) -> None:
        """Finish a round, if the trainer is at work."""
        if self.mode is actions.Mode.TRAIN and self.pending is None:
            self.rounds += 1
            size = 5000 if self.swarm.random.random() < self.swarm.large else 50
            self.pending = (self.swarm.random.randbytes(size),)
            self.finish_round(self.pending)

    def finish_round(self, parts: tuple[bytes, ...], after: int | None = None) -> None:
        after = self.disk.applied.contiguous(self.author) if after is None else after
        self.handle(events.RoundFinished(parts, 7, self.share, 1.0, 0.5, after))

    def perform(self, action: actions.Action) -> None:
        match action:
            case actions.Store():
                assert (action.author, action.update.seq) not in self.disk.updates, "stored twice"
                self.disk.updates[action.author, action.update.seq] = action
            case actions.Apply():
                self.add(action.update)
            case actions.Accept():
                self.add(action.update)
                self.pending = None
            case actions.PublishUpdate():
                self.swarm.spread(self, events.UpdateHeard, action.envelope)
            case actions.PublishHeartbeat():
                self.swarm.spread(self, events.HeartbeatHeard, action.envelope)
            case actions.Sync():
                self.swarm.exchange(self, action.peer, lambda peer: self.sync(peer, action))
            case actions.Fetch():
                self.swarm.exchange(self, action.peer, lambda peer: self.fetch(peer, action))
            case actions.AskGenesis():
                self.swarm.exchange(
                    self, action.peer, lambda peer: events.GenesisHeard(action.peer, peer.genesis if peer else None)
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

    def add(self, update: UpdateId) -> None:
        assert update in self.disk.updates, "applied before it was stored"
        if self.disk.applied.add(*update):
            value = int.from_bytes(self.disk.updates[update].digest)
            self.disk.total = (self.disk.total + value) % 2**32
        else:
            self.applied_twice += 1

    def sync(self, peer: Node | None, action: actions.Sync) -> events.Event:
        if peer is None or peer.coordinator.ledger is None:
            return events.SyncReplied(action.peer, None)
        ledger = peer.coordinator.ledger
        missing = ledger.missing_at(action.request.vector)
        envelopes = tuple(peer.disk.updates[update].envelope for update in missing[:3])
        return events.SyncReplied(action.peer, SyncReply(ledger.vector.copy(), envelopes, len(missing) > 3))

    def fetch(self, peer: Node | None, action: actions.Fetch) -> events.Event:
        stored = peer.disk.updates.get(action.update) if peer is not None else None
        blocks = stored.blocks if stored is not None and stored.blocks else None
        if peer is not None and peer.swarm.random.random() < peer.swarm.lies:
            blocks = tuple(b"x" * len(b) for b in blocks) if blocks else (b"lie",)
        return events.BlocksFetched(action.update, action.peer, blocks)


class Swarm:
    """Nodes on one topic under a virtual clock; deterministic from the seed."""

    def __init__(self, seed: int = 0, faults: Faults | None = None, *, large: float = 0.2, lies: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.faults = faults or Faults()
        self.settings = Settings()
        self.now = START
        self.large, self.lies = large, lies
        self.nodes: dict[bytes, Node] = {}
        self.disks: dict[bytes, Disk] = {}
        self.sides: dict[bytes, int] = {}
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
        """Let time pass; every node finishes a round in each slot."""
        end = self.now + seconds
        while self.now < end:
            step = min(0.25, end - self.now)
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

    def digests(self) -> set[bytes]:
        return {n.coordinator.ledger.digest for n in self.nodes.values() if n.coordinator.ledger is not None}

    def totals(self) -> set[int]:
        return {node.disk.total for node in self.nodes.values()}
