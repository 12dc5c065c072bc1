"""The store: what was kept survives, damage and other schemas are told, nothing grows for ever."""

from __future__ import annotations

import math
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from learnae.cid import raw_cid
from learnae.coordinator import actions
from learnae.errors import ConfigError, StoreError
from learnae.ledger import Entry, Kept
from learnaed.identity import load_identity
from learnaed.profile import open_profile
from learnaed.store import DamagedStore, IncompleteUpdate, Store, open_store
from learnaed.store import store as store_module
from tests.core.stored import (
    AUTHOR,
    BLOCK,
    OTHER,
    SWARM,
    cut,
    genesis,
    history,
    manifest,
    prune,
    settle,
    store,
    update,
)

FIXTURES = Path(__file__).parent / "fixtures"
OTHER_SWARM = b"s" * 32


def opened(path: Path, clock: float = 0.0) -> Store:
    return Store(path / "db.sqlite", AUTHOR, lambda: clock)


def payload(made: Store, entry: Entry) -> list[bytes | None] | None:
    found = made.update(SWARM, entry)
    return None if found is None else [found.payload] if found.payload else [made.piece(p.cid) for p in found.parts]


# --- updates


def test_survives_reopening(tmp_path: Path) -> None:
    made = opened(tmp_path)
    blocks = (BLOCK, b"b" * 5000)
    changes = [store(update(1)), store(update(2, blocks), blocks)]
    made.carry_out(changes)
    made.carry_out(changes)
    made.close()
    made = opened(tmp_path)
    first, second = Entry.of(update(1)), Entry.of(update(2, blocks))
    assert made.kept(SWARM) == Kept(entries=(first, second), own_seq=2)
    assert made.kept(OTHER_SWARM) == Kept()
    assert payload(made, first) == [b"inline"]
    assert payload(made, second) == list(blocks)
    assert made.block(raw_cid(BLOCK)) == BLOCK
    assert made.block(raw_cid(b"unknown")) is None
    assert made.statistics().bytes > 10_000
    made.close()


def test_the_sign_of_a_zero_survives(tmp_path: Path) -> None:
    """Statistics of a cut follow from it, and must be the same to the bit on nodes that never stopped."""
    made = opened(tmp_path)
    made.carry_out([store(update(1))])
    (entry,) = made.kept(SWARM).entries
    assert entry.loss is not None and math.copysign(1, entry.loss) == -1
    made.close()


def test_an_author_may_have_two_contents_under_one_number(tmp_path: Path) -> None:
    made = opened(tmp_path)
    one, two = update(1, key=OTHER), update(1, payload=b"other", key=OTHER)
    made.carry_out([store(one), store(two)])
    assert set(made.kept(SWARM).entries) == {Entry.of(one), Entry.of(two)}
    assert [payload(made, Entry.of(signed)) for signed in (one, two)] == [[b"inline"], [b"other"]]
    made.close()


def test_a_dropped_update_is_hidden_but_its_payload_stays(tmp_path: Path) -> None:
    made = opened(tmp_path)
    signed = update(2, (BLOCK,))
    entry = Entry.of(signed)
    made.carry_out([store(signed, (BLOCK,)), actions.Drop(SWARM, (entry,))])
    assert made.kept(SWARM) == Kept(dropped=(entry,), own_seq=2)
    assert made.envelopes(SWARM, [entry], 10**6) == []
    assert made.block(raw_cid(BLOCK)) is None
    assert payload(made, entry) == [BLOCK]
    made.carry_out([store(signed, (BLOCK,))])  # It counts after all.
    assert made.kept(SWARM).entries == (entry,)
    assert made.block(raw_cid(BLOCK)) == BLOCK
    made.close()


def test_envelopes_stop_at_the_limit(tmp_path: Path) -> None:
    made = opened(tmp_path)
    signed = [update(seq) for seq in range(1, 6)]
    made.carry_out([store(one) for one in signed])
    wanted = [Entry.of(one) for one in (signed[2], update(99), signed[0], signed[4])]
    assert made.envelopes(SWARM, wanted, 10**6) == [signed[2].envelope, signed[0].envelope, signed[4].envelope]
    assert made.envelopes(SWARM, wanted, len(signed[2].envelope) + 20) == [signed[2].envelope]
    made.close()


def test_a_damaged_block_is_not_served_and_can_be_replaced(tmp_path: Path) -> None:
    made = opened(tmp_path)
    made.carry_out([store(update(1, (BLOCK,)), (BLOCK,))])
    with sqlite3.connect(tmp_path / "db.sqlite") as db:
        db.execute("UPDATE blocks SET data = ?", (b"b" * 5000,))
    db.close()
    assert made.block(raw_cid(BLOCK)) is made.piece(raw_cid(BLOCK)) is None
    made.put([BLOCK])
    assert made.block(raw_cid(BLOCK)) == BLOCK
    made.close()


def test_blocks_of_an_update_that_is_not_complete_are_kept_for_a_while(tmp_path: Path) -> None:
    made = opened(tmp_path)
    made.put([BLOCK])
    made.close()
    made = opened(tmp_path, store_module.ARRIVAL_SECONDS - 1)
    cid = raw_cid(BLOCK)
    made.expire()
    assert made.piece(cid) == BLOCK and made.has([cid])
    assert made.block(cid) is None  # Strangers get no storage before their update is admitted.
    made.close()
    made = opened(tmp_path, store_module.ARRIVAL_SECONDS + 1)
    made.expire()
    assert made.piece(cid) is None and not made.has([cid])
    made.put([BLOCK, b"another"])
    made.carry_out([store(update(1, (BLOCK,)))])
    made.close()
    made = opened(tmp_path, 3 * store_module.ARRIVAL_SECONDS)
    made.expire()
    assert made.block(cid) == BLOCK
    assert made.piece(raw_cid(b"another")) is None
    made.close()


def test_blocks_that_came_before_the_clock_was_set_back_do_not_stay_for_ever(tmp_path: Path) -> None:
    made = opened(tmp_path, 1e9)
    made.put([BLOCK])
    made.close()
    made = opened(tmp_path, 1e6)
    made.expire()
    assert made.piece(raw_cid(BLOCK)) is None
    made.close()


def test_strangers_cannot_fill_the_disk_with_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_ARRIVING", 3)
    seconds = iter(range(100))
    made = Store(tmp_path / "db.sqlite", AUTHOR, lambda: float(next(seconds)))
    blocks = [bytes([number]) * 100 for number in range(5)]
    made.put(blocks)
    made.expire()
    assert [made.piece(raw_cid(block)) is not None for block in blocks] == [False, False, True, True, True]
    made.close()


def test_an_update_whose_parts_are_not_all_here_is_refused(tmp_path: Path) -> None:
    made = opened(tmp_path)
    signed = update(2, (BLOCK, b"b" * 5000), key=OTHER)
    made.put([BLOCK])
    with pytest.raises(IncompleteUpdate, match="without all its parts"):
        made.carry_out([store(update(1)), store(signed)])
    assert made.kept(SWARM) == Kept(own_seq=1)  # The number is taken all the same.
    made.put([b"b" * 5000])
    made.carry_out([store(signed)])
    assert payload(made, Entry.of(signed)) == [BLOCK, b"b" * 5000]
    made.close()


# --- cuts


def test_cuts_are_kept_settled_and_pruned(tmp_path: Path) -> None:
    made = opened(tmp_path)
    made.carry_out(history())
    kept = made.kept(SWARM)
    assert kept.entries == (Entry.of(update(4, (BLOCK,))), Entry.of(update(5, key=OTHER)))
    assert kept.dropped == (Entry.of(update(6)),)
    assert kept.floor == manifest(0).encode()
    assert kept.settled == (manifest(1).id,)
    assert kept.manifests == (manifest(1).encode(),)
    assert kept.own_seq == 9
    assert payload(made, Entry.of(update(1))) is None
    for index in range(3):
        assert made.block(manifest(index).cid) == manifest(index).encode()
    made.carry_out([settle(2), prune(2, 5)])
    kept = made.kept(SWARM)
    assert (kept.floor, kept.settled, kept.entries) == (manifest(2).encode(), (), ())
    assert kept.dropped == (Entry.of(update(6)),)
    assert [made.block(manifest(index).cid) for index in range(2)] == [None, None]
    made.close()


def test_settling_ends_what_contradicts_it(tmp_path: Path) -> None:
    made = opened(tmp_path)
    made.carry_out([cut(0), cut(1), cut(1, b"draft"), settle(0), settle(1), cut(2), settle(2), cut(3)])
    assert made.kept(SWARM).settled == tuple(manifest(index).id for index in range(3))
    assert made.block(manifest(1, b"draft").cid) is None
    # Others have settled interval 1 differently, and this node goes over to their history.
    made.carry_out([cut(1, b"other"), settle(1, b"other")])
    assert made.kept(SWARM).settled == (manifest(0).id, manifest(1, b"other").id)
    assert made.block(manifest(2).cid) is None
    assert made.block(manifest(3).cid) is not None
    made.close()


def test_a_block_of_two_updates_goes_with_the_last_of_them(tmp_path: Path) -> None:
    made = opened(tmp_path)
    own = b"c" * 5000
    made.carry_out([store(update(1, (BLOCK, own)), (BLOCK, own)), store(update(2, (BLOCK,)), (BLOCK,)), cut(0)])
    made.carry_out([prune(0, 1)])
    assert (made.block(raw_cid(BLOCK)), made.block(raw_cid(own))) == (BLOCK, None)
    made.carry_out([cut(1), prune(1, 2)])
    assert made.piece(raw_cid(BLOCK)) is None
    made.close()


def test_going_over_is_remembered_and_leaves_nothing_behind(tmp_path: Path) -> None:
    made = opened(tmp_path)
    other = genesis()
    made.carry_out([*history(), actions.GoOver(SWARM, OTHER_SWARM, other), store(update(12), swarm=OTHER_SWARM)])
    made.close()
    made = opened(tmp_path)
    assert made.kept(SWARM) == Kept(entries=(Entry.of(update(12)),), own_seq=12, adopted=other)
    assert payload(made, Entry.of(update(4, (BLOCK,)))) is None
    assert made.block(manifest(1).cid) is None
    made.carry_out([actions.GoOver(SWARM, b"t" * 32, other)])
    assert made.kept(SWARM) == Kept(adopted=other)
    made.carry_out([actions.GoOver(SWARM, SWARM, other)])
    assert made.kept(SWARM) == Kept(own_seq=9)
    made.close()


def test_the_changes_of_one_event_are_made_together_or_not_at_all(tmp_path: Path) -> None:
    made = opened(tmp_path)
    broken = actions.Store(SWARM, Entry.of(update(2)), b"no envelope", ())
    with pytest.raises(Exception, match="CBOR"):
        made.carry_out([store(update(1)), broken])
    assert made.kept(SWARM).entries == ()
    made.close()


# --- own numbers


def test_own_numbers_survive_the_loss_of_the_database(tmp_path: Path) -> None:
    made = opened(tmp_path)
    made.carry_out([store(update(7)), store(update(30, key=OTHER))])
    made.close()
    for path in tmp_path.glob("db.sqlite*"):
        path.unlink()
    made = opened(tmp_path)
    assert made.kept(SWARM) == Kept(own_seq=7)
    made.close()


@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b'{"a": "b"}', b"null"])
def test_an_unreadable_copy_of_the_numbers_does_no_harm(tmp_path: Path, content: bytes) -> None:
    made = opened(tmp_path)
    made.carry_out([store(update(7)), actions.Drop(SWARM, (Entry.of(update(7)),))])
    made.close()
    (tmp_path / "db.numbers").write_bytes(content)
    made = opened(tmp_path)
    assert made.kept(SWARM).own_seq == 7
    made.carry_out([store(update(8))])
    assert made.kept(SWARM).own_seq == 8
    made.close()


# --- damage, other schemas, full disks


def test_a_file_that_is_no_database_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    garbage = b"this is not a database" * 100
    path.write_bytes(garbage)
    with pytest.raises(DamagedStore, match="damaged"):
        Store(path, AUTHOR)
    said: list[tuple[str, str]] = []
    made = open_store(path, AUTHOR, lambda *line: said.append(line))
    made.carry_out([store(update(1))])
    made.close()
    assert (tmp_path / "db.sqlite.damaged").read_bytes() == garbage
    ((level, text),) = said
    assert level == "error" and "moved to db.sqlite.damaged" in text and "come back from the peers" in text


def test_damage_in_the_middle_is_found_at_the_start_and_in_use(tmp_path: Path) -> None:
    made = opened(tmp_path)
    blocks = [bytes([n]) * 5000 for n in range(1, 60)]
    made.carry_out([store(update(seq, (block,)), (block,)) for seq, block in enumerate(blocks, 1)])
    made.close()
    path = tmp_path / "db.sqlite"
    content = bytearray(path.read_bytes())
    for page in range(4096, len(content), 4096):
        content[page : page + 200] = b"\xff" * 200
    good = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(DamagedStore):
        opened(tmp_path)
    path.write_bytes(good)
    made = opened(tmp_path)
    made._read("PRAGMA shrink_memory")
    path.write_bytes(content)
    with pytest.raises(DamagedStore):
        made.carry_out([store(update(seq)) for seq in range(100, 120)])
    made.close()
    said: list[tuple[str, str]] = []
    made = open_store(path, AUTHOR, lambda *line: said.append(line))
    assert made.kept(SWARM) == Kept(own_seq=119)
    assert len(said) == 1
    made.close()


def test_the_check_at_the_start_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened(tmp_path)
    made.carry_out([store(update(seq)) for seq in range(1, 2000)])
    made.close()
    monkeypatch.setattr("learnaed.store.database.CHECK_SECONDS", -1.0)
    made = opened(tmp_path)
    assert len(made.kept(SWARM).entries) == 1999
    made.close()


def test_the_first_schema_is_migrated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copy(FIXTURES / "store-v1.sqlite", tmp_path / "db.sqlite")
    made = opened(tmp_path)
    assert "updates are dropped, peers kept" in caplog.text
    assert made.kept(SWARM) == Kept()
    assert made.remembered() == ["/ip4/192.0.2.1/tcp/4117/p2p/12D3KooWpeer"]
    made.carry_out(history())
    made.close()
    caplog.clear()
    made = opened(tmp_path)
    assert made.kept(SWARM).own_seq == 9
    assert made._read("PRAGMA auto_vacuum") == [(2,)]
    assert "dropped" not in caplog.text
    made.close()


def test_of_the_second_schema_peers_and_own_numbers_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copy(FIXTURES / "store-v2.sqlite", tmp_path / "db.sqlite")
    made = opened(tmp_path)
    assert "updates are dropped, peers kept" in caplog.text
    assert made.kept(SWARM) == Kept(own_seq=9)
    assert made.remembered() == ["/ip4/192.0.2.1/tcp/4117/p2p/12D3KooWpeer"]
    assert payload(made, Entry.of(update(4, (BLOCK,)))) is None
    for table in ("updates", "blocks", "parts", "arriving", "manifests"):
        assert made._read(f"SELECT count(*) FROM {table}") == [(0,)]
    made.carry_out(history())
    kept = made.kept(SWARM)
    assert (kept.floor, kept.settled) == (manifest(0).encode(), (manifest(1).id,))
    made.close()
    caplog.clear()
    made = opened(tmp_path)
    assert made.kept(SWARM) == kept
    assert "dropped" not in caplog.text
    made.close()


def test_the_second_schema_forgets_where_it_had_gone_over_to(tmp_path: Path) -> None:
    """The genesis that it kept names weights that nobody has."""
    shutil.copy(FIXTURES / "store-v2.sqlite", tmp_path / "db.sqlite")
    with sqlite3.connect(tmp_path / "db.sqlite") as db:
        db.execute("UPDATE swarms SET adopted = ?, genesis = ?", (OTHER_SWARM, b"of an older form"))
    db.close()
    made = opened(tmp_path)
    assert made.kept(SWARM) == Kept(own_seq=9)
    made.close()


def test_the_third_schema_is_read(tmp_path: Path) -> None:
    shutil.copy(FIXTURES / "store-v3.sqlite", tmp_path / "old.sqlite")
    old = Store(tmp_path / "old.sqlite", AUTHOR)
    new = opened(tmp_path)
    new.carry_out(history())
    assert old.kept(SWARM) == new.kept(SWARM)
    assert old.remembered() == ["/ip4/192.0.2.1/tcp/4117/p2p/12D3KooWpeer"]
    assert payload(old, Entry.of(update(4, (BLOCK,)))) == [BLOCK]
    old.close()
    new.close()


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / "db.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="newer learnae") as error:
        opened(tmp_path)
    assert not isinstance(error.value, DamagedStore)


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    made = opened(tmp_path)
    made.carry_out([store(update(1))])
    ((pages,),) = made._read("PRAGMA page_count")
    made._read(f"PRAGMA max_page_count = {pages + 1}")
    block = b"a" * 200_000
    change = store(update(2, (block,)), (block,))
    with pytest.raises(StoreError, match="full"):
        made.carry_out([change])
    assert made.kept(SWARM).entries == (Entry.of(update(1)),)
    made._read("PRAGMA max_page_count = 100000")
    made.carry_out([change])
    assert len(made.kept(SWARM).entries) == 2
    made.close()


LIMITED = """
import resource, signal, sys
from pathlib import Path
from learnae.errors import StoreError
from tests.core.stored import AUTHOR, SWARM, store, update
from learnaed.store import DamagedStore, Store
made = Store(Path(sys.argv[1]), AUTHOR)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
kept = 0
try:
    for seq in range(1, 200):
        block = bytes([seq]) * 20_000
        made.carry_out([store(update(seq, (block,)), (block,))])
        kept = seq
except DamagedStore:
    sys.exit("a full disk was taken for damage")
except StoreError as error:
    print(error)
assert 5 < kept < 199 and len(made.kept(SWARM).entries) == kept
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
made.carry_out([store(update(kept + 1, (block,)), (block,))])
made.close()
print(kept)
"""


def test_a_file_that_cannot_grow_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    result = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    said, kept = result.stdout.splitlines()
    assert "check that the disk is not full" in said
    made = opened(tmp_path)
    assert [entry.seq for entry in made.kept(SWARM).entries] == list(range(1, int(kept) + 2))
    made.close()


def test_neither_file_nor_log_grows_for_ever(tmp_path: Path) -> None:
    made = opened(tmp_path)
    sizes = []
    for interval in range(40):
        for seq in range(interval * 10 + 1, interval * 10 + 11):
            block = seq.to_bytes(4) * 5000
            made.carry_out([store(update(seq, (block,)), (block,))])
        changes: list[store_module.Change] = [cut(interval), settle(interval)]
        if interval >= 3:
            changes.append(prune(interval - 3, (interval - 2) * 10))
        made.carry_out(changes)
        sizes.append(made.statistics().bytes)
    assert max(sizes[20:]) <= max(sizes[:20])
    assert len(made._read("SELECT 1 FROM manifests")) == 4
    ((blocks,),) = made._read("SELECT count(*) FROM blocks")
    assert blocks == 30
    made.carry_out([prune(39, 400)])
    made.close()
    assert (tmp_path / "db.sqlite").stat().st_size < max(sizes) / 4


# --- peers, identity, profile


def test_peers_are_remembered_latest_first_and_bounded(tmp_path: Path) -> None:
    made = opened(tmp_path)
    for number in range(250):
        made.remember({"peer": [f"/ip4/192.0.2.1/tcp/{number}"]}, float(number))
    remembered = made.remembered()
    assert len(remembered) == 200
    assert remembered[0].endswith("/249")
    made.close()


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
