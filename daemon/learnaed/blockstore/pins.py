"""Which blocks must stay: the pinned roots with all their blocks, and downloads under way; used by `BlockStore`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from learnae.errors import StoreError
from learnaed import logs
from learnaed.store import DamagedStore, set_aside
from learnaed.store.database import Database

MAX_ABOUT: Final = 4096
"""Most bytes of what is noted with a pin, as JSON."""

_SCHEMA: Final = (
    """
    CREATE TABLE pins (
        id INTEGER PRIMARY KEY,
        root BLOB NOT NULL,
        kind TEXT NOT NULL,
        label TEXT NOT NULL,
        since REAL NOT NULL,
        size INTEGER NOT NULL,
        milestone INTEGER NOT NULL,
        about TEXT NOT NULL, -- JSON
        UNIQUE (root, kind)
    );
    CREATE TABLE marks ( -- every block of a pin: what a sweep leaves alone
        digest BLOB NOT NULL,
        pin INTEGER NOT NULL REFERENCES pins (id) ON DELETE CASCADE,
        PRIMARY KEY (digest, pin)
    ) WITHOUT ROWID;
    CREATE INDEX marks_by_pin ON marks (pin);
    CREATE TABLE downloads (
        root BLOB PRIMARY KEY,
        since REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE state (
        complete INTEGER NOT NULL -- 0: pins may be missing, so that nothing may be swept
    );
    INSERT INTO state VALUES (0);
    """,
)

log = logs.get("blocks")


@dataclass(frozen=True, slots=True)
class Pin:
    """A root whose blocks stay."""

    root: bytes
    """Its CID."""
    kind: str
    """Who wants it: the same root may be pinned once for each kind."""
    label: str
    since: float
    """When it was pinned first, in seconds since the epoch."""
    size: int
    """Bytes of the file, or of the one block."""
    milestone: bool
    """Whether it is kept when others of its kind are unpinned for their age; that is the owner's business."""
    about: Mapping[str, Any]
    """Whatever else is known of it."""


class DamagedPins(DamagedStore):
    """The file is no longer a sound database; `open_book` takes care of it."""

    def __init__(self, path: Path, why: object) -> None:
        super().__init__(path, why)
        message = (
            f"the database of pins {path} is damaged ({why}): start the daemon again. It is moved aside then, and no "
            "block is deleted until all is pinned again"
        )
        self.args = (message,)


class PinBook(Database):
    """The database of pins. It is small, and all else can be found again from its blocks; see `Database` for errors."""

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > len(_SCHEMA):
            raise StoreError(
                f"{self._path} was written by a newer learnae (schema {version}, this one knows {len(_SCHEMA)}): "
                "update learnae, or use another --profile",
                code="database-newer",
            )
        for number, script in enumerate(_SCHEMA[version:], version + 1):
            self._db.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            with super()._clear_errors():
                yield
        except DamagedPins:
            raise
        except DamagedStore as error:
            raise DamagedPins(self._path, error.why) from error

    # --- pins

    def pin(self, pin: Pin, digests: Iterable[bytes]) -> Pin:
        """Keep a pin with its blocks, in place of one of the same root and kind, whose time stays.

        A milestone stays one until it is unpinned, and a label until there is another.
        """
        about = json.dumps(pin.about, sort_keys=True)
        row = (pin.root, pin.kind, pin.label, pin.since, pin.size, pin.milestone, about)
        with self._transaction() as db:
            ((number, since, label, milestone),) = db.execute(
                "INSERT INTO pins (root, kind, label, since, size, milestone, about) VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (root, kind) DO UPDATE SET label = iif(excluded.label = '', label, excluded.label), "
                "size = excluded.size, milestone = max(milestone, excluded.milestone), about = excluded.about "
                "RETURNING id, since, label, milestone",
                row,
            ).fetchall()
            db.executemany("INSERT OR IGNORE INTO marks VALUES (?, ?)", ((digest, number) for digest in digests))
        return replace(pin, since=since, label=label, milestone=bool(milestone))

    def unpin(self, root: bytes, kind: str | None) -> int:
        """Drop the pin of this kind, or of all; how many there were."""
        with self._transaction() as db:
            return db.execute("DELETE FROM pins WHERE root = ?1 AND (?2 IS NULL OR kind = ?2)", (root, kind)).rowcount

    def pins(self) -> tuple[Pin, ...]:
        """All pins, the oldest first."""
        rows = self._read("SELECT root, kind, label, since, size, milestone, about FROM pins ORDER BY since, id")
        return tuple(
            Pin(root, kind, label, since, size, bool(milestone), json.loads(about))
            for root, kind, label, since, size, milestone, about in rows
        )

    def pinned(self, shard: int) -> frozenset[bytes]:
        """The digests of pinned blocks that begin with this byte."""
        first, behind = bytes([shard]), bytes([shard + 1]) if shard < 255 else bytes([255]) * 33
        rows = self._read("SELECT DISTINCT digest FROM marks WHERE digest >= ? AND digest < ?", (first, behind))
        return frozenset(digest for (digest,) in rows)

    def marked(self, digest: bytes) -> bool:
        """Whether a pinned block has this digest."""
        return bool(self._read("SELECT 1 FROM marks WHERE digest = ? LIMIT 1", (digest,)))

    # --- downloads

    def begin(self, root: bytes, now: float) -> None:
        """Note a download, so that its blocks survive a crash."""
        self._write("INSERT OR REPLACE INTO downloads VALUES (?, ?)", (root, now))

    def end(self, roots: Collection[bytes]) -> None:
        """Forget downloads."""
        with self._transaction() as db:
            db.executemany("DELETE FROM downloads WHERE root = ?", ((root,) for root in roots))

    def downloads(self) -> dict[bytes, float]:
        """The downloads that were begun and not ended, and when."""
        return dict(self._read("SELECT root, since FROM downloads"))

    # --- whether this is all

    @property
    def complete(self) -> bool:
        """Whether these are all the pins there should be."""
        return bool(self._read("SELECT complete FROM state")[0][0])

    def set_complete(self) -> None:
        """From now on, what has no pin may be swept."""
        self._write("UPDATE state SET complete = 1")

    def _write(self, statement: str, parameters: tuple[object, ...] = ()) -> None:
        with self._transaction() as db:
            db.execute(statement, parameters)


def open_book(path: Path, *, empty: bool) -> PinBook:
    """The pins at this path; a damaged database is moved aside, and a new one begun.

    Args:
        path: the file.
        empty: whether there are no blocks: then a new database is complete. Otherwise its owner has to pin again first.

    Raises:
        StoreError: the file is of a newer learnae, or cannot be written.
    """
    try:
        book = PinBook(path)
    except DamagedStore as error:
        aside = set_aside(path)
        log.error(
            "[database-damaged] the database of pins is damaged; a new one is begun, and no block is deleted until it "
            "is complete again",
            path=path,
            moved_to=aside.name,
            why=error.why,
        )
        book = PinBook(path)
    if empty and not book.complete:
        book.set_complete()
    return book
