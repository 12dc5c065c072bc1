"""What the database of a daemon says, running or killed: a look from outside, past all code of the daemon."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from learnae.peer import peer_id
from learnae.rules import Rules


class Row(NamedTuple):
    """One update of one author."""

    seq: int
    digest: bytes
    slot: int


@dataclass(frozen=True)
class Book:
    """The updates of one author in one database, dropped ones included, and the slot up to which it is pruned."""

    rows: frozenset[Row]
    floor: int

    def accounts_for(self, row: Row) -> bool:
        """Whether the update is here, or lies in what was pruned."""
        return row in self.rows or row.slot <= self.floor


def read(database: Path, author: str, rules: Rules) -> Book:
    """What this database, which may be in use, holds of the author (a peer id)."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        db.execute("BEGIN")  # rows and floor of one moment
        found = db.execute("SELECT author, seq, digest, slot FROM updates").fetchall()
        floors = db.execute("SELECT number FROM swarms JOIN manifests ON manifests.cid = swarms.floor").fetchall()
    rows = frozenset(Row(seq, digest, slot) for key, seq, digest, slot in found if peer_id(key) == author)
    return Book(rows, max((rules.last_slot(index) for (index,) in floors), default=-1))


def copied(database: Path, directory: Path) -> Path:
    """A copy of the database that a killed daemon left, with the log that it left; the original stays as it is."""
    directory.mkdir()
    for path in database.parent.glob(f"{database.name}*"):
        shutil.copy(path, directory / path.name)
    return directory / database.name


def verdict(database: Path) -> list[str]:
    """What SQLite finds wrong with a database; opening it recovers it first, as the daemon would."""
    with closing(sqlite3.connect(database)) as db:
        found = [str(row[0]) for row in db.execute("PRAGMA integrity_check")]
        strays = [f"{row[0]}: row {row[1]} belongs to nothing" for row in db.execute("PRAGMA foreign_key_check")]
    return [line for line in found if line != "ok"] + strays
