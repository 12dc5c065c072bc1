"""How many updates a second does a node admit, and does its memory stay flat? `python -m benchmarks.ledger`.

One real coordinator and one real store, without a network, under a virtual clock: the node hears signed updates and
heartbeats of 99 others, who hold and attest what it does. Its trainer answers at once. First the time that updates of
1 KiB take; then a week in which the swarm cuts, settles and prunes its history, one update of everybody in each slot.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from nacl.signing import SigningKey, VerifyKey

from benchmarks.report import Report, arguments
from learnae import wire
from learnae.cid import raw_cid
from learnae.coordinator import Coordinator, Settings, actions, events
from learnae.genesis import Genesis
from learnae.layout import Layout, TensorSpec
from learnae.ledger import Kept
from learnae.manifest import ZERO
from learnae.wire import CutId, Heartbeat, Update, open_envelope, seal
from learnaed.store import Change, Store
from netsim import processes

PEERS = 99
PAYLOAD = 1024
TARGET = 500.0  # updates per second
BATCH = 64  # events whose changes the daemon makes durable together, if so many wait
SLOT = 120.0  # seconds
DAY = 86_400
START = 1_000_000 * SLOT * 8
SETTINGS = Settings(heartbeat=SLOT, expiry=3 * SLOT)
GENESIS = Genesis(Layout((TensorSpec("weight", (1024, 1024), "float32"),)), (-24,), raw_cid(b"0"), SLOT, None)
SWARM = GENESIS.swarm_id("benchmark")
_CHANGES = get_args(Change)


class Crowd:
    """The others: they sign what they would say."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._keys = [SigningKey(self._random.randbytes(32)) for _ in range(count)]
        self.authors = [bytes(key.verify_key) for key in self._keys]
        self._seq = 0

    def updates(self, slot: int, base: CutId | None) -> list[bytes]:
        """One envelope of each for this slot."""
        self._seq += 1
        update = Update(SWARM, self._seq, slot, base, 640, 0.01, 1.0, 0.5, b"0", ())
        return [
            seal(
                replace(update, payload=self._random.randbytes(PAYLOAD), norm=self._random.lognormvariate(0.0, 0.3)),
                wire.signer(key),
                author,
            )
            for key, author in zip(self._keys, self.authors, strict=True)
        ]

    def heartbeats(self, like: Heartbeat, now: float) -> list[bytes]:
        """A heartbeat of each, who holds and attests what the sender of `like` does."""
        beat = replace(like, time=now, state="training", rate=100.0)
        return [seal(beat, wire.signer(key), author) for key, author in zip(self._keys, self.authors, strict=True)]


class Node:
    """A coordinator with a store, or none, and a trainer that answers at once.

    `batch`: how many changes are made durable together.
    """

    def __init__(self, store: Store | None = None, batch: int = BATCH) -> None:
        key = SigningKey(bytes(32))
        self.author = bytes(key.verify_key)
        self.coordinator = Coordinator(self.author, wire.signer(key), "benchmark", SETTINGS)
        self.stored = self.settled = self.own = 0
        self.now = 0.0
        self.beat: Heartbeat | None = None
        self._store = store
        self._batch = batch
        self._changes: list[Change] = []
        self._waiting = False

    def start(self, crowd: Crowd, now: float) -> None:
        """Connect to the others, with a fresh trainer."""
        for author in crowd.authors:
            self.handle(events.PeerConnected(author), now)
        kept = Kept(snapshots=frozenset({GENESIS.weights}))
        self.handle(events.TrainerReady(GENESIS, None, ZERO, (), 0, kept), now)

    def handle(self, event: events.Event, now: float) -> None:
        """Take an event in, and do what follows from it."""
        self.now = now
        todo = self.coordinator.handle(event, now)
        self._changes += [action for action in todo if isinstance(action, _CHANGES)]
        if len(self._changes) >= self._batch:
            self.commit()
        for action in todo:
            match action:
                case actions.Store():
                    self.stored += 1
                case actions.Settle():
                    self.settled += 1
                case actions.Accept():
                    self.own += action.entry is not None
                case actions.TakeCut():
                    weights = raw_cid(action.index.to_bytes(8))
                    self.handle(events.CutTaken(action.index, action.token, weights, 4_000_000), now)
                case actions.PublishHeartbeat():
                    self.beat = open_envelope(Heartbeat, action.envelope).message

    def commit(self) -> None:
        """Make durable what is not yet."""
        if self._store is not None and self._changes:
            self._store.carry_out(self._changes)
        self._changes.clear()

    def round(self, payload: bytes, now: float) -> None:
        """The own trainer has finished a round."""
        self.handle(events.RoundFinished((payload,), 640, 0.01, 1.0, 0.5, self.own, 0), now)

    @property
    def base(self) -> CutId | None:
        """The newest settled cut, on which everybody's updates stand."""
        return self.beat.settled[-1] if self.beat is not None and self.beat.settled else None


def hear(node: Node, kind: Callable[[bytes, bytes], events.Event], envelopes: Iterable[bytes], now: float) -> None:
    """Have the node hear these messages, at the target's pace: what it does now and then is then done as often."""
    for count, envelope in enumerate(envelopes):
        node.handle(kind(envelope, node.author), now + count / TARGET)


@dataclass
class Clock:
    """Time spent: that of the wall, and of the processor."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what happens inside."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu

    def row(self, what: str, count: int) -> dict[str, Any]:
        """For the table: how many of them a second."""
        return {
            "what": what,
            "us each": 1e6 * self.cpu / count,
            "per CPU second": count / self.cpu,
            "per second": count / self.wall,
        }


def slot(node: Node, crowd: Crowd, number: int, clock: Clock) -> None:
    """One slot of the swarm's life; `clock` counts what the updates of the others take."""
    now = number * SLOT
    updates = crowd.updates(number, node.base)
    for part in (0.25, 0.5):
        node.handle(events.Tick(), now + part * SLOT)
    now += 0.6 * SLOT
    if node.beat is not None:
        hear(node, events.HeartbeatHeard, crowd.heartbeats(node.beat, now), now)
    now += 0.2 * SLOT
    with clock.running():
        hear(node, events.UpdateHeard, updates, now)
        node.commit()
    node.round(bytes(PAYLOAD), now + 1)


def throughput(what: str, slots: int, store: Store | None = None, batch: int = BATCH) -> dict[str, Any]:
    """What updates take from the envelope to the set, and to the store if there is one."""
    crowd, node, clock = Crowd(PEERS), Node(store, batch), Clock()
    first = int(START / SLOT)
    node.start(crowd, START)
    for number in range(slots):
        slot(node, crowd, first + number, clock)
    if node.stored != slots * (PEERS + 1) or not node.settled:
        raise AssertionError(f"{node.stored} updates were stored, {node.settled} cuts settled")
    return clock.row(what, slots * PEERS)


def floor(slots: int) -> Iterator[dict[str, Any]]:
    """What nobody can save: the check of a signature, and reading the message."""
    crowd, key = Crowd(PEERS), SigningKey(bytes(32))
    envelopes = [envelope for number in range(slots) for envelope in crowd.updates(number, None)]
    author, signed = bytes(key.verify_key), [key.sign(envelope) for envelope in envelopes]
    clock = Clock()
    with clock.running():
        for message in signed:
            VerifyKey(author).verify(message)
    yield clock.row("Ed25519 verification alone", len(signed))
    clock = Clock()
    with clock.running():
        for envelope in envelopes:
            open_envelope(Update, envelope)
    yield clock.row("open the envelope", len(envelopes))


def rates(slots: int) -> Iterator[dict[str, Any]]:
    """The table of throughput."""
    yield from floor(slots)
    yield throughput("admit, no store", slots)
    for what, batch in ((f"admit and store, {BATCH} at a time", BATCH), ("admit and store, one at a time", 1)):
        with opened() as store:
            yield throughput(what, slots, store, batch)


@contextmanager
def opened() -> Iterator[Store]:
    """A store on the disk, for as long as it is needed."""
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(Store(Path(directory) / "ledger.sqlite", Node().author)) as store,
    ):
        yield store


def week(days: int, report: Report) -> list[dict[str, Any]]:
    """A row for each simulated day: what the process holds at its end."""
    rows = []
    crowd, clock = Crowd(PEERS), Clock()
    first, slots, parts = int(START / SLOT), int(days * DAY / SLOT), max(days, 7)  # a quick look has rows too
    with opened() as store:
        node = Node(store)
        node.start(crowd, START)
        for part in range(parts):
            for number in range(part * slots // parts, (part + 1) * slots // parts):
                slot(node, crowd, first + number, clock)
            gc.collect()
            row = {"day": (part + 1) * days / parts, "settled cuts": node.settled} | held(node, store)
            report.note("  ".join(f"{key} {value:g}" for key, value in row.items()))
            rows.append(row)
    return rows


def held(node: Node, store: Store) -> dict[str, float]:
    """What the process holds now, and the disk."""
    ledger = node.coordinator.statistics(node.now).ledger
    assert ledger is not None
    return {
        "updates since genesis": ledger.updates,
        "resident MB": processes.resident(os.getpid()) / 1e6,
        "objects": len(gc.get_objects()),
        "database MB": store.statistics().bytes / 1e6,
    }


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the targets."""
    options = arguments(__doc__ or "", given)
    report = Report("ledger", options)
    slots, days = (20, 1) if options.quick else (50, 7)
    rows = list(rates(slots))
    report.table(f"{slots * PEERS} updates of {PAYLOAD} bytes from {PEERS} others, one core", rows)
    for row in rows[2:4]:
        report.target(f"{row['what']}: updates per CPU second", row["per CPU second"], "at least", TARGET)

    rows = week(days, report)
    report.table(
        f"{days} simulated days, slots of {SLOT:g} s, an update of each of {PEERS + 1} nodes in each slot", rows
    )
    for key in ("resident MB", "objects", "database MB"):
        growth = 100 * (rows[-1][key] / rows[1][key] - 1)
        report.target(f"{key}: growth from the second row to the last", growth, "at most", 10.0, "%")
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
