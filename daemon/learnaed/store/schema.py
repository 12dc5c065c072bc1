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
    # The first schema's updates belong to swarms without cuts, whose messages nobody understands any more.
    """
    DROP TABLE updates;
    DELETE FROM blocks;
    CREATE TABLE updates (
        id INTEGER PRIMARY KEY,
        swarm BLOB NOT NULL,
        author BLOB NOT NULL,
        seq INTEGER NOT NULL,
        digest BLOB NOT NULL,
        slot INTEGER NOT NULL,
        counts INTEGER NOT NULL, -- 0: dropped, kept only until the trainer has subtracted it
        facts BLOB NOT NULL, -- CBOR: samples, norm, share, loss, base
        envelope BLOB NOT NULL,
        UNIQUE (swarm, author, seq, digest)
    );
    CREATE INDEX updates_by_slot ON updates (swarm, slot);
    CREATE TABLE parts (
        cid BLOB NOT NULL,
        owner INTEGER NOT NULL REFERENCES updates (id) ON DELETE CASCADE,
        PRIMARY KEY (cid, owner)
    ) WITHOUT ROWID;
    CREATE INDEX parts_by_owner ON parts (owner);
    CREATE TABLE arriving ( -- blocks of updates that are not complete yet
        cid BLOB PRIMARY KEY,
        since REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE manifests (
        swarm BLOB NOT NULL,
        number INTEGER NOT NULL, -- the interval that the cut ends with
        cid BLOB NOT NULL,
        data BLOB NOT NULL,
        settled INTEGER NOT NULL,
        PRIMARY KEY (swarm, cid)
    );
    CREATE INDEX manifests_by_cid ON manifests (cid);
    CREATE TABLE swarms (
        swarm BLOB PRIMARY KEY,
        floor BLOB,
        own_seq INTEGER NOT NULL DEFAULT 0,
        adopted BLOB, -- the swarm that the node of this one has gone over to
        genesis BLOB -- the genesis of that one
    ) WITHOUT ROWID;
    """,
    # The second schema's swarms named their weights otherwise, and no other node knows them any more.
    """
    DELETE FROM updates;
    DELETE FROM blocks;
    DELETE FROM manifests;
    DELETE FROM arriving;
    UPDATE swarms SET floor = NULL, adopted = NULL, genesis = NULL; -- the own numbers stay taken
    """,
)
