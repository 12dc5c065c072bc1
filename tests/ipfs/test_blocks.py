"""Blocks on disk: whole and durable or not there, checked when read, shared by processes."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from learnae import blocks as module
from learnae import unixfs
from learnae.blocks import Blocks, Stored
from learnae.cid import DAG_CBOR, DAG_PB, MAX_BLOCK, RAW, cid_of, digest_of, make_cid
from learnae.errors import StoreError, WireError


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def some(count: int, size: int = 100, seed: int = 0) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(size) for _ in range(count)]


def damage(blocks: Blocks, cid: bytes, to: bytes | None = None) -> None:
    (path,) = [path for path in files(blocks.directory) if path.name == digest_of(cid).hex()]
    path.write_bytes(path.read_bytes()[:-1] + b"?" if to is None else to)


def test_a_block_is_kept(tmp_path: Path) -> None:
    blocks = Blocks(tmp_path / "blocks")
    assert list(blocks) == [] and blocks.get(make_cid(RAW, b"one")) is None and not blocks.has(make_cid(RAW, b"one"))
    cid = blocks.put(RAW, b"one")
    assert cid == make_cid(RAW, b"one")
    again = Blocks(tmp_path / "blocks")
    assert again.get(cid) == b"one" and again.has(cid) and again.size(cid) == 3
    assert list(again) == [Stored(digest_of(cid), 3)]
    assert again.delete(digest_of(cid)) and not again.delete(digest_of(cid))
    assert list(again) == [] and again.get(cid) is None


def test_the_codec_does_not_matter(tmp_path: Path) -> None:
    blocks = Blocks(tmp_path)
    cid = blocks.put(RAW, b"one")
    for codec in (DAG_PB, DAG_CBOR):
        assert blocks.get(cid_of(codec, digest_of(cid))) == b"one"
        assert blocks.put(codec, b"one") == make_cid(codec, b"one")
    assert len(files(tmp_path)) == 1
    assert blocks.statistics().written == 1


def test_a_batch_is_there_when_it_ends_and_not_before(tmp_path: Path) -> None:
    blocks = Blocks(tmp_path)
    given = some(300)
    with blocks.batch() as batch:
        cids = [batch.put(RAW, block) for block in [*given, *given[:5]]]
        assert list(blocks) == []
    assert [blocks.get(cid) for cid in cids] == [*given, *given[:5]]
    assert {stored.digest for stored in blocks} == {digest_of(cid) for cid in cids}
    assert len(files(tmp_path)) == 300 and blocks.statistics().written_bytes == 30_000
    assert sum(len(blocks.shard(number)) for number in range(256)) == 300


def test_a_batch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    blocks = Blocks(tmp_path)
    kept = blocks.put(RAW, b"kept")
    with pytest.raises(KeyError), blocks.batch() as batch:
        for block in some(50):
            batch.put(RAW, block)
        raise KeyError
    assert [stored.digest for stored in blocks] == [digest_of(kept)] and len(files(tmp_path)) == 1


@pytest.mark.parametrize("full_after", [0, 1, 20])
def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_after: int
) -> None:
    blocks = Blocks(tmp_path)
    written = 0
    lock = threading.Lock()
    original = module._write_all

    def write(file: IO[bytes], block: bytes) -> None:
        nonlocal written
        with lock:
            written += 1
            if written > full_after:
                file.write(block[:10])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(file, block)

    monkeypatch.setattr(module, "_write_all", write)
    with pytest.raises(StoreError, match=r"No space left.*disk is not full"), blocks.batch() as batch:
        for block in some(100):
            batch.put(RAW, block)
    assert files(tmp_path) == []
    with pytest.raises(StoreError, match="No space left"):
        blocks.put(RAW, b"one")
    assert files(tmp_path) == []
    monkeypatch.setattr(module, "_write_all", original)
    assert blocks.get(blocks.put(RAW, b"one")) == b"one"


@pytest.mark.parametrize("to", [None, b"", b"longer than it was"])
def test_a_damaged_block_is_dropped_and_can_come_back(tmp_path: Path, to: bytes | None) -> None:
    found: list[bytes] = []
    blocks = Blocks(tmp_path, found.append)
    cid = blocks.put(RAW, b"one")
    damage(blocks, cid, to)
    assert blocks.has(cid)
    assert blocks.get(cid) is None
    assert not blocks.has(cid) and files(tmp_path) == []
    assert found == [cid] and blocks.statistics().damaged == 1
    blocks.put(RAW, b"one")
    assert blocks.get(cid) == b"one"


def test_a_truncated_block_is_written_again(tmp_path: Path) -> None:
    blocks = Blocks(tmp_path)
    cid = blocks.put(RAW, b"one")
    damage(blocks, cid, b"o")
    blocks.put(RAW, b"one")
    assert blocks.get(cid) == b"one"


def test_a_sound_block_in_place_of_a_damaged_one_is_not_dropped(tmp_path: Path) -> None:
    """Another process replaces it after this one has read it."""
    blocks = Blocks(tmp_path)
    cid = blocks.put(RAW, b"one")
    blocks._drop(blocks._path(digest_of(cid)), digest_of(cid))
    assert blocks.get(cid) == b"one" and blocks.statistics().damaged == 0


def test_an_unreadable_sector_is_damage_but_a_lack_of_handles_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = Blocks(tmp_path)
    cid = blocks.put(RAW, b"one")
    broken = blocks._path(digest_of(cid))
    number = errno.EMFILE
    original = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path == broken:
            raise OSError(number, os.strerror(number))
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(StoreError, match="cannot be read"):
        blocks.get(cid)
    assert blocks.has(cid)
    number = errno.EIO
    assert blocks.get(cid) is None


def test_remains_of_the_dead_are_removed_and_those_of_the_living_not(tmp_path: Path) -> None:
    blocks = Blocks(tmp_path)
    with blocks.batch() as batch:
        batch.put(RAW, b"one")
        batch._settle()
        mine = os.getpid()
        old, young = tmp_path / "new" / f"{mine}-old", tmp_path / "new" / f"{mine}-young"
        for path in (old, young):
            path.write_bytes(b"half")
        now = young.stat().st_mtime
        os.utime(old, (now - module.DRAFT_SECONDS - 1,) * 2)
        Blocks(tmp_path)
        assert young.exists() and not old.exists()
    assert blocks.get(make_cid(RAW, b"one")) == b"one"
    blocks.tidy(0)
    assert not young.exists()


def test_what_a_killed_process_was_writing_is_deleted_at_once(tmp_path: Path) -> None:
    code = "import os, pathlib, sys; pathlib.Path(sys.argv[1], f'{os.getpid()}-x').write_bytes(b'half'); print('ok')"
    blocks = Blocks(tmp_path)
    blocks.put(RAW, b"one")
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "new")], check=True, capture_output=True)
    mine = tmp_path / "new" / f"{os.getpid()}-x"
    mine.write_bytes(b"half")
    blocks.tidy()
    assert list((tmp_path / "new").iterdir()) == [mine]


def test_what_is_no_block_is_not_listed(tmp_path: Path) -> None:
    blocks = Blocks(tmp_path)
    cid = blocks.put(RAW, b"one")
    shard = blocks._path(digest_of(cid)).parent
    for name in ("README", "00", "é" * 64):
        (shard / name).write_text("")
    assert [stored.digest for stored in blocks] == [digest_of(cid)]


def test_what_is_too_large_to_send_is_not_kept(tmp_path: Path) -> None:
    blocks = Blocks(tmp_path)
    assert blocks.size(blocks.put(RAW, bytes(MAX_BLOCK))) == MAX_BLOCK
    with pytest.raises(StoreError, match="at most 2097152"):
        blocks.put(RAW, bytes(MAX_BLOCK + 1))


def test_only_cids_name_blocks(tmp_path: Path) -> None:
    blocks = Blocks(tmp_path)
    for cid in (b"", b"../../etc/passwd", bytes(36), make_cid(RAW, b"")[:-1]):
        for ask in (blocks.get, blocks.has, blocks.size):
            with pytest.raises(WireError):
                ask(cid)


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be"):
        Blocks(tmp_path / "file").put(RAW, b"one")


@pytest.mark.skipif(sys.platform != "linux", reason="looks up in /proc what is synced")
def test_names_are_durable_before_put_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is synced before it has its name, and every directory with a new name after that."""
    synced: list[Path] = []
    named: dict[Path, int] = {}
    fsync, replace = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    def note_name(path: Path, target: Path) -> Path:
        assert path in synced
        named[target.parent] = len(synced)
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_name)
    with Blocks(tmp_path).batch() as batch:
        for block in some(20):
            batch.put(RAW, block)
    assert len(named) > 1
    for directory, when in named.items():
        assert directory in synced[when:]
    assert tmp_path in synced  # It has new directories.
    # Those that others wrote are made durable too: they may not have got so far.
    synced.clear()
    with Blocks(tmp_path).batch() as batch:
        for block in some(20):
            batch.put(RAW, block)
    assert set(synced) == set(named)


WRITER = """
import sys
from pathlib import Path
from learnae.blocks import Blocks
from learnae.cid import RAW
blocks = Blocks(Path(sys.argv[1]))
for round in range(int(sys.argv[2]), int(sys.argv[3])):
    with blocks.batch() as batch:
        for number in range(20):
            batch.put(RAW, b"%d %d" % (round, number))
"""


def test_processes_share_a_directory(tmp_path: Path) -> None:
    """Two write, partly the same blocks, while this one reads and deletes; nobody sees anything half."""
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), first, last])
        for first, last in (("0", "12"), ("6", "18"))
    ]
    damaged: list[bytes] = []
    blocks = Blocks(tmp_path, damaged.append)
    seen = 0
    while any(writer.poll() is None for writer in writers):
        for stored in blocks:
            assert blocks.get(cid_of(RAW, stored.digest)) is not None
            seen += 1
    assert [writer.wait() for writer in writers] == [0, 0] and seen and not damaged
    assert {stored.digest for stored in blocks} == {
        digest_of(make_cid(RAW, b"%d %d" % (round, number))) for round in range(18) for number in range(20)
    }
    assert list((tmp_path / "new").iterdir()) == []


def test_threads_share_one_object(tmp_path: Path) -> None:
    blocks = Blocks(tmp_path)

    def write(first: int) -> None:
        for number in range(first, first + 20):
            blocks.put(RAW, b"%d" % number)

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {stored.digest for stored in blocks} == {digest_of(make_cid(RAW, b"%d" % n)) for n in range(40)}


def test_a_file_is_built_into_it_and_read_from_it(tmp_path: Path) -> None:
    blocks = Blocks(tmp_path)

    def leaves() -> Iterator[bytes]:
        yield from some(400, 64, seed=1)

    with blocks.batch() as batch:
        root = unixfs.build(leaves(), batch.put)
    assert list(unixfs.read(root.cid, blocks.get)) == list(leaves())
    assert root.tsize == sum(stored.size for stored in blocks)
