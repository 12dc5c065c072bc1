"""The SQLite store: what was stored survives, damage and a newer schema are told, nothing is lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from learnae import wire
from learnae.cid import raw_cid
from learnae.errors import ConfigError, StoreError
from learnae.ledger import Entry
from learnae.wire import Part, Signed, Update, open_envelope, seal
from learnaed.identity import load_identity
from learnaed.profile import open_profile
from learnaed.store import Store

KEY = SigningKey(b"k" * 32)
AUTHOR = bytes(KEY.verify_key)
SWARM = bytes(32)


def update(seq: int, blocks: tuple[bytes, ...] = ()) -> Signed[Update]:
    parts = tuple(Part(raw_cid(block), len(block)) for block in blocks)
    message = Update(SWARM, seq, seq, 5, 0.5, 1.0, 0.1, b"" if blocks else b"inline", parts)
    return open_envelope(Update, seal(message, wire.signer(KEY), AUTHOR))


def keep(store: Store, signed: Signed[Update], blocks: tuple[bytes, ...] = ()) -> None:
    store.add([(SWARM, Entry.of(signed), signed.envelope, blocks)])


def test_survives_reopening(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    blocks = (b"a" * 5000, b"b" * 5000)
    keep(store, update(1))
    keep(store, update(2, blocks), blocks)
    keep(store, update(2, blocks), blocks)
    store.close()
    store = Store(tmp_path / "db")
    assert store.entries(SWARM) == (Entry.of(update(1)), Entry.of(update(2, blocks)))
    assert store.entries(b"other" * 6 + b"xx") == ()
    assert store.payload(SWARM, AUTHOR, 1)[1] == [b"inline"]
    assert store.payload(SWARM, AUTHOR, 2)[1] == list(blocks)
    assert store.block(raw_cid(blocks[0])) == blocks[0]
    assert store.block(raw_cid(b"unknown")) is None
    assert store.statistics().bytes > 10_000
    store.close()


def test_envelopes_stop_at_the_limit(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    signed = [update(seq) for seq in range(1, 6)]
    for one in signed:
        keep(store, one)
    ids = [(AUTHOR, 3), (AUTHOR, 99), (AUTHOR, 1), (AUTHOR, 5)]
    assert store.envelopes(SWARM, ids, 10**6) == [signed[2].envelope, signed[0].envelope, signed[4].envelope]
    assert store.envelopes(SWARM, ids, len(signed[0].envelope) + 20) == [signed[2].envelope]
    store.close()


def test_a_damaged_block_is_not_served(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    block = b"a" * 5000
    keep(store, update(1, (block,)), (block,))
    with sqlite3.connect(tmp_path / "db") as db:
        db.execute("UPDATE blocks SET data = ?", (b"b" * 5000,))
    assert store.block(raw_cid(block)) is None
    with pytest.raises(StoreError, match="damaged"):
        store.payload(SWARM, AUTHOR, 1)
    store.close()


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreError, match="move it away"):
        Store(tmp_path / "db")


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    Store(tmp_path / "db").close()
    with sqlite3.connect(tmp_path / "db") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer learnae"):
        Store(tmp_path / "db")


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    keep(store, update(1))
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages + 1}")
    block = b"a" * 200_000
    with pytest.raises(StoreError, match="full"):
        keep(store, update(2, (block,)), (block,))
    assert store.entries(SWARM) == (Entry.of(update(1)),)
    store._db.execute("PRAGMA max_page_count = 100000")
    keep(store, update(2, (block,)), (block,))
    assert len(store.entries(SWARM)) == 2
    store.close()


def test_peers_are_remembered_latest_first_and_bounded(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    for number in range(250):
        store.remember({"peer": [f"/ip4/192.0.2.1/tcp/{number}"]}, float(number))
    remembered = store.remembered()
    assert len(remembered) == 200
    assert remembered[0].endswith("/249")
    store.close()


def test_identity_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    first = load_identity(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_identity(path).peer_id == first.peer_id
    path.chmod(0o644)
    load_identity(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"short")
    with pytest.raises(ConfigError, match="damaged"):
        load_identity(path)
    assert path.read_bytes() == b"short"


def test_two_daemons_get_two_profiles(tmp_path: Path) -> None:
    with open_profile(tmp_path, None) as one, open_profile(tmp_path, None) as two:
        assert (one.name, two.name) == ("default", "default-2")
        with pytest.raises(ConfigError, match="another learnaed"), open_profile(tmp_path, "default"):
            pass
    with open_profile(tmp_path, None) as again:
        assert again.name == "default"
