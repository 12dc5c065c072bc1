"""One SQLite file: opened, checked, migrated, written in transactions, with clear errors; the base of `Store`."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from learnae.errors import StoreError
from learnaed import logs
from learnaed.store.schema import MIGRATIONS

CHECK_SECONDS = 5.0
"""How long the check for damage may take when the file is opened; what it does not get to is noticed in use."""
_LONGEST_LOG = 4 * 1024 * 1024
_FOREIGN = {1: "have no cuts", 2: "name their weights otherwise"}
"""Why nobody has the updates of these schemas any more."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

log = logs.get("store")


class DamagedStore(StoreError):
    """The file is no longer a sound database. `set_aside` and a new one are what helps."""

    code = "database-damaged"

    def __init__(self, path: Path, why: object) -> None:
        super().__init__(
            f"the database {path} is damaged ({why}): a new one must take its place, and the swarm's updates come back "
            "from the peers"
        )
        self.path = path
        self.why = why


class IncompleteUpdate(StoreError):
    """An update cannot be stored, because parts of its payload are missing. Waiting does not help."""

    code = "update-incomplete"


class Database:
    """One database file. Its methods block for the disk; call them in a thread from async code.

    Safe to use from several threads: a lock keeps them in turn.

    Raises:
        DamagedStore: from every method: the file is damaged.
        StoreError: from every method: the file is of a newer learnae, or cannot be written (disk full, permissions).
            What was stored before stays intact.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._writes = 0
        with self._clear_errors():
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10.0)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _prepare(self) -> None:
        db = self._db
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of effect while there is no table yet
        db.execute("PRAGMA journal_mode = WAL")
        # FULL: an update that was announced must survive a power cut, or its number would be used twice.
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -2048")
        db.execute(f"PRAGMA journal_size_limit = {_LONGEST_LOG}")
        db.execute("PRAGMA foreign_keys = ON")
        self._check()
        self._migrate()

    def _check(self) -> None:
        deadline = time.monotonic() + CHECK_SECONDS
        self._db.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
        try:
            verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            log.debug("the database is too large to be checked at every start", path=self._path)
            return
        finally:
            self._db.set_progress_handler(None, 0)
        if verdict != "ok":
            raise DamagedStore(self._path, verdict)

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self._path} was written by a newer learnae (schema {version}, this one knows {len(MIGRATIONS)}): "
                "update learnae, or use another --profile",
                code="database-newer",
            )
        dropped = self._db.execute("SELECT count(*) FROM updates").fetchone()[0] if version in _FOREIGN else 0
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            self._db.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")
        if version in _FOREIGN:
            log.warning(
                "the database is of an older learnae: updates are dropped, peers kept",
                why=f"its swarms {_FOREIGN[version]}",
                path=self._path,
                updates=dropped,
            )
            self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._db.execute("VACUUM")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._clear_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.rollback()
                raise
            self._writes += 1

    def _read(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock, self._clear_errors():
            return self._db.execute(query, parameters).fetchall()

    def _shrink(self) -> None:
        """Give back what the file no longer needs, once that is a quarter of it. A failure does not matter."""
        with self._lock:
            try:
                (pages,) = self._db.execute("PRAGMA page_count").fetchone()
                (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
                if 4 * free > pages:
                    self._db.execute("PRAGMA incremental_vacuum").fetchall()
            except sqlite3.OperationalError as error:
                log.debug("the database was not made smaller", why=error)

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # closed, or a mistake of ours
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF in _DAMAGED:
                raise DamagedStore(self._path, error) from error
            raise StoreError(
                f"cannot use the database {self._path}: {error}; check that the disk is not full and that the file is "
                "writable; nothing stored before is lost",
                code="disk-full" if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL else "database-unwritable",
            ) from error
