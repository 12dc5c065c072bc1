"""The SQLite store (WAL): updates, payload blocks and remembered peers; the driver writes it, network handlers read."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from learnae.cid import raw_cid
from learnae.errors import StoreError
from learnae.ledger import Entry
from learnae.vector import UpdateId
from learnae.wire import Update, open_envelope
from learnaed.store.schema import MIGRATIONS

MAX_REMEMBERED = 200

Kept = tuple[bytes, Entry, bytes, tuple[bytes, ...]]
"""Swarm, entry, envelope, and the blocks of the payload that are not in the envelope."""


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Figures for the status endpoint."""

    path: str
    bytes: int
    writes: int


class Store:
    """One database file. Its methods block for the disk; call them in a thread from async code.

    Safe to use from several threads: a lock keeps them in turn.

    Raises:
        StoreError: from every method: the file is damaged, of a newer learnae, or cannot be written (disk full,
            permissions). What was stored before stays intact.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._writes = 0
        with _clear_errors(path):
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10.0)
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                # FULL: an update that was announced must survive a power cut, or its number would be used twice.
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("PRAGMA cache_size = -2048")
                self._migrate()
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self._path} was written by a newer learnae (schema {version}, this one knows {len(MIGRATIONS)}): "
                "update learnae, or use another --profile"
            )
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            self._db.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _clear_errors(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.rollback()
                raise
            self._db.execute("COMMIT")
            self._writes += 1

    def _read(self, query: str, parameters: Sequence[object]) -> list[tuple[object, ...]]:
        with self._lock, _clear_errors(self._path):
            return self._db.execute(query, parameters).fetchall()

    # --- updates

    def add(self, kept: Iterable[Kept]) -> None:
        """Keep updates; all or nothing, and durable when this returns."""
        with self._transaction() as db:
            for swarm, entry, envelope, blocks in kept:
                db.executemany("INSERT OR IGNORE INTO blocks VALUES (?, ?)", ((raw_cid(b), b) for b in blocks))
                db.execute(
                    "INSERT OR IGNORE INTO updates VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (swarm, entry.author, entry.seq, entry.slot, entry.samples, entry.digest, envelope),
                )

    def entries(self, swarm: bytes) -> tuple[Entry, ...]:
        """Everything that is known of a swarm's updates, but for their payloads."""
        rows = self._read("SELECT author, seq, slot, samples, digest FROM updates WHERE swarm = ?", (swarm,))
        return tuple(Entry(*row) for row in rows)  # type: ignore[arg-type]

    def envelopes(self, swarm: bytes, updates: Sequence[UpdateId], limit: int) -> list[bytes]:
        """The envelopes of these updates, in order, as many as fit into `limit` bytes."""
        found: list[bytes] = []
        for author, seq in updates:
            envelope = self._envelope(swarm, author, seq)
            if envelope is None:
                continue
            limit -= len(envelope) + 8
            if limit < 0:
                break
            found.append(envelope)
        return found

    def payload(self, swarm: bytes, author: bytes, seq: int) -> tuple[Update, list[bytes]]:
        """An update and the blocks of its payload.

        Raises:
            StoreError: it is not here, or one of its blocks is damaged.
        """
        envelope = self._envelope(swarm, author, seq)
        if envelope is None:
            raise StoreError(f"update {seq} is not in {self._path}, though the ledger holds it: the file was changed")
        update = open_envelope(Update, envelope).message
        if update.payload:
            return update, [update.payload]
        blocks = [self.block(part.cid) for part in update.parts]
        if not all(blocks):
            raise StoreError(f"the payload of update {seq} in {self._path} is missing or damaged")
        return update, [block for block in blocks if block is not None]

    def block(self, cid: bytes) -> bytes | None:
        """A payload block; None if it is not here or no longer what its name says."""
        rows = self._read("SELECT data FROM blocks WHERE cid = ?", (cid,))
        if not rows:
            return None
        (data,) = rows[0]
        assert isinstance(data, bytes)
        return data if raw_cid(data) == cid else None

    def _envelope(self, swarm: bytes, author: bytes, seq: int) -> bytes | None:
        query = "SELECT envelope FROM updates WHERE swarm = ? AND author = ? AND seq = ?"
        rows = self._read(query, (swarm, author, seq))
        return rows[0][0] if rows else None  # type: ignore[return-value]

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
        return [str(row[0]) for row in self._read("SELECT address FROM peers ORDER BY seen DESC", ())]

    def statistics(self) -> StoreStatistics:
        """Figures for the status endpoint."""
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        return StoreStatistics(str(self._path), sum(f.stat().st_size for f in files if f.exists()), self._writes)


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
            remedy = "check that the disk is not full and that the file is writable; nothing stored before is lost"
        else:
            remedy = "the file is damaged: move it away to start anew; the swarm's updates come back from the peers"
        raise StoreError(f"cannot use the database {path}: {error}; {remedy}") from error
