"""The database schema as a list of migrations; the file's `user_version` counts those that were applied."""

from __future__ import annotations

MIGRATIONS = (
    """
    CREATE TABLE updates (
        swarm BLOB NOT NULL,
        author BLOB NOT NULL,
        seq INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        samples INTEGER NOT NULL,
        digest BLOB NOT NULL,
        envelope BLOB NOT NULL,
        PRIMARY KEY (swarm, author, seq)
    ) WITHOUT ROWID;
    CREATE TABLE blocks (
        cid BLOB PRIMARY KEY,
        data BLOB NOT NULL
    );
    CREATE TABLE peers (
        address TEXT PRIMARY KEY,
        peer TEXT NOT NULL,
        seen REAL NOT NULL
    ) WITHOUT ROWID;
    """,
)
