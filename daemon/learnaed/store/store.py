"""The store: updates, payload blocks, manifests of cuts, remembered peers; the driver writes it, peers' requests read.

An update *counts* (it is in the ledger's set) or is *dropped*: then its payload stays until the log is pruned, for the
trainer to subtract, and nobody else gets to see it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatchmethod
from pathlib import Path
from typing import Any, Final, TypeAlias

import cbor2

from learnae import cbor
from learnae.cid import names, raw_cid
from learnae.coordinator.actions import Drop, GoOver, KeepCut, Prune, Settle
from learnae.coordinator.actions import Store as Keep
from learnae.genesis import Genesis
from learnae.ledger import Entry, Kept
from learnae.peer import short
from learnae.wire import CutId, Update, open_envelope
from learnaed.store.database import DamagedStore, Database, IncompleteUpdate
from learnaed.store.numbers import Numbers

MAX_REMEMBERED: Final = 200
ARRIVAL_SECONDS: Final = 3600.0
"""How long the blocks of an update that is never completed, or not admitted, are kept."""
MAX_ARRIVING: Final = 8192
"""Most of these blocks; with 256 KiB each they take 2 GiB."""

Change: TypeAlias = Keep | Drop | KeepCut | Settle | Prune | GoOver
"""The coordinator's actions that change the store."""


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Figures for the status endpoint."""

    path: str
    bytes: int
    writes: int


class Store(Database):
    """The store of one node; see `Database` for errors and threads.

    Args:
        path: the database file. Beside it lies a small one with the own numbers that are taken.
        author: the own key.
        clock: seconds since the epoch.
    """

    def __init__(self, path: Path, author: bytes, clock: Callable[[], float] = time.time) -> None:
        super().__init__(path)
        self._author = author
        self._clock = clock
        self._numbers = Numbers(path.with_suffix(".numbers"))

    # --- what the coordinator wants kept

    def carry_out(self, changes: Sequence[Change]) -> None:
        """Make these changes in order: all or none, durable when this returns. Repeating them is harmless."""
        for change in changes:
            if isinstance(change, Keep) and change.entry.author == self._author:
                self._numbers.take(change.swarm, change.entry.seq)
        with self._transaction() as db:
            for change in changes:
                self._carry_out(change, db)
        if any(isinstance(change, (Prune, GoOver)) for change in changes):
            self._shrink()

    @singledispatchmethod
    def _carry_out(self, change: Change, db: sqlite3.Connection) -> None:
        raise TypeError(f"not a change of the store: {change!r}")

    @_carry_out.register
    def _(self, keep: Keep, db: sqlite3.Connection) -> None:
        entry = keep.entry
        parts = open_envelope(Update, keep.envelope).message.parts
        db.executemany("INSERT OR IGNORE INTO blocks VALUES (?, ?)", ((raw_cid(b), b) for b in keep.blocks))
        if not self._all_here((part.cid for part in parts), db):
            raise IncompleteUpdate(
                f"update {entry.seq} of {short(entry.author)} came into the ledger without all its parts: start the "
                "daemon again; nothing stored before is lost"
            )
        db.execute(
            "INSERT INTO updates (swarm, author, seq, digest, slot, counts, facts, envelope) "
            "VALUES (?, ?, ?, ?, ?, 1, ?, ?) ON CONFLICT (swarm, author, seq, digest) DO UPDATE SET counts = 1",
            (keep.swarm, entry.author, entry.seq, entry.digest, entry.slot, _facts(entry), keep.envelope),
        )
        for part in parts:
            db.execute(
                f"INSERT OR IGNORE INTO parts SELECT ?, id FROM updates WHERE {_ENTRY}",
                (part.cid, *_key(keep.swarm, entry)),
            )
        db.executemany("DELETE FROM arriving WHERE cid = ?", ((part.cid,) for part in parts))
        if entry.author == self._author:
            self._take_numbers(db, keep.swarm, entry.seq)

    @_carry_out.register
    def _(self, drop: Drop, db: sqlite3.Connection) -> None:
        keys = (_key(drop.swarm, entry) for entry in drop.entries)
        db.executemany(f"UPDATE updates SET counts = 0 WHERE {_ENTRY}", keys)

    @_carry_out.register
    def _(self, keep: KeepCut, db: sqlite3.Connection) -> None:
        row = (keep.swarm, keep.cut.index, keep.cut.cid, keep.data)
        db.execute("INSERT OR IGNORE INTO manifests VALUES (?, ?, ?, ?, 0)", row)

    @_carry_out.register
    def _(self, settle: Settle, db: sqlite3.Connection) -> None:
        swarm, (number, cid) = settle.swarm, (settle.cut.index, settle.cut.cid)
        # What else was thought of these intervals is over; so is what was settled after them, on another history.
        db.execute(
            "DELETE FROM manifests WHERE swarm = ? AND cid != ? "
            "AND CASE settled WHEN 1 THEN number >= ? ELSE number <= ? END",
            (swarm, cid, number, number),
        )
        db.execute("UPDATE manifests SET settled = 1 WHERE swarm = ? AND cid = ?", (swarm, cid))

    @_carry_out.register
    def _(self, prune: Prune, db: sqlite3.Connection) -> None:
        swarm, floor = prune.swarm, prune.floor
        self._forget(db, swarm, prune.slot)
        db.execute(
            "DELETE FROM manifests WHERE swarm = ? AND number <= ? AND cid != ?", (swarm, floor.index, floor.cid)
        )
        self._take_numbers(db, swarm, prune.own_seq)
        db.execute("UPDATE swarms SET floor = ? WHERE swarm = ?", (floor.cid, swarm))

    @_carry_out.register
    def _(self, change: GoOver, db: sqlite3.Connection) -> None:
        row = db.execute("SELECT adopted FROM swarms WHERE swarm = ?", (change.own,)).fetchone()
        for swarm in {change.own, row[0] if row and row[0] else change.own} - {change.swarm}:
            self._forget(db, swarm, 2**62)
            db.execute("DELETE FROM manifests WHERE swarm = ?", (swarm,))
            db.execute("UPDATE swarms SET floor = NULL WHERE swarm = ?", (swarm,))
        away = change.swarm != change.own
        adopted = (change.swarm, cbor.encode(change.genesis.to_wire())) if away else (None, None)
        self._take_numbers(db, change.own, 0)
        db.execute("UPDATE swarms SET adopted = ?, genesis = ? WHERE swarm = ?", (*adopted, change.own))

    def _take_numbers(self, db: sqlite3.Connection, swarm: bytes, seq: int) -> None:
        db.execute(
            "INSERT INTO swarms (swarm, own_seq) VALUES (?, ?) "
            "ON CONFLICT (swarm) DO UPDATE SET own_seq = max(own_seq, excluded.own_seq)",
            (swarm, seq),
        )

    def _forget(self, db: sqlite3.Connection, swarm: bytes, slot: int) -> None:
        """Delete updates up to a slot, and the blocks that no other update has."""
        which = "SELECT id FROM updates WHERE swarm = ? AND slot <= ?"
        blocks = db.execute(f"SELECT DISTINCT cid FROM parts WHERE owner IN ({which})", (swarm, slot)).fetchall()
        db.execute("DELETE FROM updates WHERE swarm = ? AND slot <= ?", (swarm, slot))
        self._delete_unused(db, blocks)

    def _delete_unused(self, db: sqlite3.Connection, blocks: Iterable[tuple[bytes]]) -> None:
        db.executemany(
            "DELETE FROM blocks WHERE cid = ?1 AND NOT EXISTS (SELECT 1 FROM parts WHERE cid = ?1) "
            "AND NOT EXISTS (SELECT 1 FROM arriving WHERE cid = ?1)",
            blocks,
        )

    # --- what is kept

    def kept(self, own: bytes) -> Kept:
        """All that is known of this swarm, or of the one that its node has gone over to."""
        with self._lock, self._clear_errors():
            row = self._db.execute("SELECT adopted, genesis FROM swarms WHERE swarm = ?", (own,)).fetchone()
            swarm, genesis = (row[0], row[1]) if row and row[0] else (own, None)
            floor, own_seq = self._floor(swarm)
            above = self._db.execute(
                "SELECT number, cid, data FROM manifests WHERE swarm = ? AND settled AND cid IS NOT ? ORDER BY number",
                (swarm, floor and floor[0]),
            ).fetchall()
            updates = self._db.execute(
                "SELECT counts, author, seq, slot, digest, facts FROM updates WHERE swarm = ? ORDER BY slot", (swarm,)
            ).fetchall()
        return Kept(
            entries=tuple(_entry(*columns) for counts, *columns in updates if counts),
            dropped=tuple(_entry(*columns) for counts, *columns in updates if not counts),
            floor=floor and floor[1],
            settled=tuple(CutId(number, cid) for number, cid, _ in above),
            manifests=tuple(data for _, _, data in above),
            own_seq=max(own_seq, self._numbers.last(swarm)),
            adopted=Genesis.from_wire(cbor2.loads(genesis)) if genesis is not None else None,
        )

    def _floor(self, swarm: bytes) -> tuple[tuple[bytes, bytes] | None, int]:
        """The floor's CID and manifest, and the highest own number."""
        row = self._db.execute("SELECT floor, own_seq FROM swarms WHERE swarm = ?", (swarm,)).fetchone()
        if row is None or row[0] is None:
            return None, row[1] if row else 0
        found = self._db.execute("SELECT cid, data FROM manifests WHERE swarm = ? AND cid = ?", (swarm, row[0]))
        floor = found.fetchone()
        if floor is None:
            raise DamagedStore(self._path, "the manifest of a pruned log is missing")
        return floor, row[1]

    def envelopes(self, swarm: bytes, entries: Iterable[Entry], limit: int) -> list[bytes]:
        """The envelopes of these updates, in order, as many as fit into `limit` bytes; of those that count."""
        found: list[bytes] = []
        for entry in entries:
            rows = self._read(f"SELECT envelope FROM updates WHERE {_ENTRY} AND counts", _key(swarm, entry))
            if not rows:
                continue
            limit -= len(rows[0][0]) + 8
            if limit < 0:
                break
            found.append(rows[0][0])
        return found

    def update(self, swarm: bytes, entry: Entry) -> Update | None:
        """An update, dropped or not, with its payload if that is inline; None if it was pruned."""
        rows = self._read(f"SELECT envelope FROM updates WHERE {_ENTRY}", _key(swarm, entry))
        return open_envelope(Update, rows[0][0]).message if rows else None

    def sizes(self, swarm: bytes, entries: Iterable[Entry]) -> list[int | None]:
        """Bytes of each update, envelope and payload; None for one that was pruned."""
        parts = "SELECT sum(length(data)) FROM parts JOIN blocks USING (cid) WHERE owner = updates.id"
        query = f"SELECT length(envelope) + coalesce(({parts}), 0) FROM updates WHERE {_ENTRY}"
        found = (self._read(query, _key(swarm, entry)) for entry in entries)
        return [rows[0][0] if rows else None for rows in found]

    # --- blocks

    def put(self, blocks: Iterable[bytes]) -> None:
        """Keep blocks of an update that is still on its way, or replace damaged ones; durable when this returns."""
        with self._transaction() as db:
            for block in blocks:
                cid = raw_cid(block)
                db.execute("INSERT OR REPLACE INTO blocks VALUES (?, ?)", (cid, block))
                if not db.execute("SELECT 1 FROM parts WHERE cid = ?", (cid,)).fetchone():
                    db.execute("INSERT OR REPLACE INTO arriving VALUES (?, ?)", (cid, self._clock()))

    def expire(self) -> None:
        """Delete blocks of updates that were never completed, or not admitted, once they are old or too many."""
        # One from the future, before the clock was set back, would stay for long.
        old = "SELECT cid FROM arriving WHERE abs(since - ?) > ?"
        many = "SELECT cid FROM arriving ORDER BY since DESC LIMIT -1 OFFSET ?"
        which = f"SELECT * FROM ({old}) UNION SELECT * FROM ({many})"
        parameters = (self._clock(), ARRIVAL_SECONDS, MAX_ARRIVING)
        if not self._read(which, parameters):
            return
        with self._transaction() as db:
            blocks = db.execute(f"DELETE FROM arriving WHERE cid IN ({which}) RETURNING cid", parameters).fetchall()
            self._delete_unused(db, blocks)
        self._shrink()

    def has(self, cids: Iterable[bytes]) -> bool:
        """Whether all these blocks are here, sound or not."""
        with self._lock, self._clear_errors():
            return self._all_here(cids, self._db)

    def _all_here(self, cids: Iterable[bytes], db: sqlite3.Connection) -> bool:
        return all(db.execute("SELECT 1 FROM blocks WHERE cid = ?", (cid,)).fetchone() for cid in cids)

    def piece(self, cid: bytes) -> bytes | None:
        """A payload block for the own use; None if it is not here or no longer what its name says."""
        return _sound(cid, self._read("SELECT data FROM blocks WHERE cid = ?", (cid,)))

    def block(self, cid: bytes) -> bytes | None:
        """A block that others may have: of an update that counts, or a manifest."""
        owned = "SELECT 1 FROM parts JOIN updates ON id = owner WHERE parts.cid = ?1 AND counts"
        payload = f"SELECT data FROM blocks WHERE cid = ?1 AND EXISTS ({owned})"
        return _sound(cid, self._read(f"{payload} UNION ALL SELECT data FROM manifests WHERE cid = ?1 LIMIT 1", (cid,)))

    # --- peers

    def remember(self, addresses: Mapping[str, Iterable[str]], now: float) -> None:
        """Keep the addresses at which peers were reached; the oldest beyond 200 are forgotten."""
        rows = [(address, peer, now) for peer, known in addresses.items() for address in known]
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO peers VALUES (?, ?, ?)", rows)
            db.execute(
                "DELETE FROM peers WHERE address NOT IN (SELECT address FROM peers ORDER BY seen DESC LIMIT ?)",
                (MAX_REMEMBERED,),
            )

    def remembered(self) -> list[str]:
        """Multiaddrs of peers, those seen last first."""
        return [str(row[0]) for row in self._read("SELECT address FROM peers ORDER BY seen DESC")]

    def statistics(self) -> StoreStatistics:
        """Figures for the status endpoint."""
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        return StoreStatistics(str(self._path), sum(f.stat().st_size for f in files if f.exists()), self._writes)


_ENTRY = "swarm = ? AND author = ? AND seq = ? AND digest = ?"


def _key(swarm: bytes, entry: Entry) -> tuple[bytes, bytes, int, bytes]:
    return swarm, entry.author, entry.seq, entry.digest


def _facts(entry: Entry) -> bytes:
    # Not columns: SQLite would turn -0.0 into 0.0, and what follows from it must be the same on every node.
    base = entry.base.to_wire() if entry.base is not None else None
    return cbor.encode([entry.samples, entry.norm, entry.share, entry.loss, base])


def _entry(author: bytes, seq: int, slot: int, digest: bytes, facts: bytes) -> Entry:
    samples, norm, share, loss, base = cbor2.loads(facts)
    return Entry(author, seq, slot, samples, norm, share, loss, CutId(*base) if base is not None else None, digest)


def _sound(cid: bytes, rows: Sequence[tuple[Any, ...]]) -> bytes | None:
    data: bytes | None = rows[0][0] if rows else None
    return data if data is not None and names(cid, data) else None
