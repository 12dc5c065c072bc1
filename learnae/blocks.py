"""Blocks on disk, one file each, named by their SHA-256; the trainer writes and reads them, the daemon does all else.

Several processes may use one directory at once. A file gets its name only when it is whole and durable, so whatever has
a name is complete; what a disk did to it later shows when it is read. Which blocks must stay is not known here: see the
daemon's block store.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import IO, Final, NamedTuple

import psutil

from learnae.cid import MAX_BLOCK, digest_of, make_cid
from learnae.errors import StoreError, disk_code

SHARDS: Final = 256
"""Directories that the files are spread over, by the first byte of the hash."""
DRAFT_SECONDS: Final = 3600.0
"""Age at which a file that never got its name is taken for the remains of a dead process, whatever has its number."""
_WRITERS: Final = 8  # threads of all batches: most of their time they wait for the disk
_AHEAD: Final = 2 * _WRITERS  # blocks that wait for them


class Stored(NamedTuple):
    """A block that is there, sound or not."""

    digest: bytes
    size: int


@dataclass(frozen=True, slots=True)
class BlocksStatistics:
    """What went through one `Blocks` since it was opened."""

    written: int = 0
    """Blocks that were not there before."""
    written_bytes: int = 0
    read: int = 0
    read_bytes: int = 0
    deleted: int = 0
    damaged: int = 0
    """Blocks that were not what their name says, and were dropped."""


class Blocks:
    """The blocks in one directory, which is made when the first is written. Safe to use from several threads.

    Args:
        directory: where they lie.
        on_damage: told the CID under which a damaged block was asked for, after the block is gone.

    Raises:
        StoreError: from every method: the directory cannot be read or written.
        WireError: from every method that takes a CID: it is none.
    """

    def __init__(self, directory: Path, on_damage: Callable[[bytes], None] = lambda cid: None) -> None:
        self.directory = directory
        self._drafts = directory / "new"
        self._on_damage = on_damage
        self._shards: set[Path] = set()
        self._counts = BlocksStatistics()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_WRITERS, thread_name_prefix="blocks")
        self.tidy()

    # --- writing

    def put(self, codec: int, block: bytes) -> bytes:
        """Keep a block; durable when this returns. One that is there already is not written again.

        Returns:
            its CID.

        Raises:
            StoreError: the disk is full or not writable, or the block has more than 2 MiB. Nothing of it is there then.
        """
        with self.batch() as batch:
            return batch.put(codec, block)

    def batch(self) -> Batch:
        """For many blocks at a time, which is several times as fast. Use it in a `with` statement."""
        return Batch(self)

    def _write(self, digest: bytes, block: bytes) -> Path | None:
        """Write and sync a file that has no name yet; None if the block is there."""
        if len(block) > MAX_BLOCK:
            raise StoreError(
                f"a block of {len(block)} bytes is not kept: at most {MAX_BLOCK} can be sent to others", code="defect"
            )
        with contextlib.suppress(FileNotFoundError):
            path = self._path(digest)
            if path.stat().st_size == len(block) and path.read_bytes() == block:  # not so if the disk has damaged it
                return None
        draft = self._drafts / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            with _open_new(draft) as file:
                _write_all(file, block)
                os.fsync(file.fileno())
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        self._count(written=1, written_bytes=len(block))
        return draft

    def _publish(self, digests: Iterable[bytes], drafts: dict[bytes, Path]) -> None:
        """Give drafts their names, and make the names of all these blocks durable.

        Another process may have named one just now that was not written here: therefore all directories are synced.
        """
        for digest, draft in drafts.items():
            shard = self._path(digest).parent
            if shard not in self._shards:
                with contextlib.suppress(FileExistsError):
                    shard.mkdir()
                    _sync_names(self.directory)
                self._shards.add(shard)
            try:
                draft.replace(self._path(digest))
            except PermissionError:  # Windows: somebody reads it, so it is there.
                if not self._path(digest).exists():
                    raise
                draft.unlink()
        # Side by side: a file system makes all that wait for it durable at once.
        list(self._threads.map(_sync_names, {self._path(digest).parent for digest in digests}))

    # --- reading

    def get(self, cid: bytes) -> bytes | None:
        """The block, checked; None if it is not here. A damaged one is dropped: then it is not here either."""
        digest = digest_of(cid)
        path = self._path(digest)
        block: bytes | None = None
        with self._clear_errors("read"):
            try:
                block = path.read_bytes()
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
        if block is not None and sha256(block).digest() == digest:
            self._count(read=1, read_bytes=len(block))
            return block
        with self._clear_errors("deleted"):
            self._drop(path, digest)
        self._on_damage(cid)
        return None

    def has(self, cid: bytes) -> bool:
        """Whether the block is here, sound or not."""
        return self.size(cid) is not None

    def size(self, cid: bytes) -> int | None:
        """Bytes of the block; None if it is not here."""
        return self.size_of(digest_of(cid))

    def size_of(self, digest: bytes) -> int | None:
        """The same by its digest."""
        with self._clear_errors("read"):
            try:
                return self._path(digest).stat().st_size
            except FileNotFoundError:
                return None

    def __iter__(self) -> Iterator[Stored]:
        """All blocks, in no particular order. Those that come or go meanwhile may be missed."""
        for number in range(SHARDS):
            yield from self.shard(number)

    def shard(self, number: int) -> list[Stored]:
        """The blocks whose digest begins with this byte."""
        found = []
        with self._clear_errors("listed"), contextlib.suppress(FileNotFoundError):
            for path in (self.directory / f"{number:02x}").iterdir():
                with contextlib.suppress(ValueError, FileNotFoundError):
                    digest = bytes.fromhex(path.name)
                    if len(digest) == 32:
                        found.append(Stored(digest, path.stat().st_size))
        return found

    # --- deleting

    def delete(self, digest: bytes) -> bool:
        """Delete the block with this digest; whether that could be done."""
        try:
            self._path(digest).unlink()
        except OSError:  # It is gone, or, on Windows, being read.
            return False
        self._count(deleted=1)
        return True

    def tidy(self, age: float = DRAFT_SECONDS) -> None:
        """Delete what processes have left behind that are dead by now, and what is `age` seconds old or more.

        Zero is right where nobody else can be writing.
        """
        alive: dict[str, bool] = {}
        with self._clear_errors("listed"), contextlib.suppress(FileNotFoundError):
            for draft in list(self._drafts.iterdir()):
                writer = draft.name.partition("-")[0]
                if writer not in alive:
                    alive[writer] = not writer.isdecimal() or psutil.pid_exists(int(writer))
                with contextlib.suppress(OSError):
                    if not alive[writer] or not age or abs(time.time() - draft.stat().st_mtime) >= age:
                        draft.unlink()

    def _drop(self, path: Path, digest: bytes) -> None:
        """Delete a damaged file, but not a sound one that has come in its place."""
        aside = self._drafts / f"damaged-{secrets.token_hex(8)}"
        self._drafts.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.replace(aside)
            with contextlib.suppress(OSError):
                if sha256(aside.read_bytes()).digest() == digest:
                    aside.replace(path)
                    return
            aside.unlink()
        self._count(damaged=1)

    def statistics(self) -> BlocksStatistics:
        """Figures for the status endpoint."""
        return self._counts

    def _count(self, **more: int) -> None:
        with self._lock:
            counts = self._counts
            self._counts = replace(counts, **{name: getattr(counts, name) + by for name, by in more.items()})

    def _path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self.directory / name[:2] / name

    @contextlib.contextmanager
    def _clear_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"blocks in {self.directory} cannot be {what}: {error.strerror}. Check that the disk is not full and "
                "that the directory is yours; what is there already is not harmed",
                code=disk_code(error, "file-unwritable"),
            ) from error


class Batch:
    """Blocks that are written together, by several threads. At the end of the `with` statement all are there and
    durable, or, if it ends with an exception, none that were not there before.

    It holds 16 blocks at most. Used by one thread.

    Raises:
        StoreError: from `put` and from the end of the `with` statement: the disk is full or not writable.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._digests: set[bytes] = set()
        self._written: dict[bytes, Path] = {}
        self._failure: BaseException | None = None
        self._room = threading.Semaphore(_AHEAD)

    def __enter__(self) -> Batch:
        return self

    def put(self, codec: int, block: bytes) -> bytes:
        """Have a block written; its CID. `bytes` of the caller's are not copied."""
        cid = make_cid(codec, block)
        self.put_named(cid, block)
        return cid

    def put_named(self, cid: bytes, block: bytes) -> None:
        """The same for a caller who has just made its CID: hashing it once more would tell nothing new."""
        if digest_of(cid) not in self._digests:
            self._digests.add(digest_of(cid))
            self._room.acquire()
            self._blocks._threads.submit(self._write, digest_of(cid), block)
        self._check()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._settle()
        try:
            if error is None:
                self._check()
                with self._blocks._clear_errors("written"):
                    self._blocks._publish(self._digests, self._written)
        finally:
            for draft in self._written.values():  # Those with a name are no longer there.
                with contextlib.suppress(OSError):
                    draft.unlink(missing_ok=True)

    def _settle(self) -> None:
        """Wait until nothing is being written any more."""
        for _ in range(_AHEAD):
            self._room.acquire()
        self._room.release(_AHEAD)

    def _write(self, digest: bytes, block: bytes) -> None:
        try:
            if self._failure is None:
                with self._blocks._clear_errors("written"):
                    draft = self._blocks._write(digest, block)
                if draft is not None:
                    self._written[digest] = draft
        except BaseException as failure:
            self._failure = failure
        finally:
            self._room.release()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure


def _open_new(path: Path) -> IO[bytes]:
    """A new file; its directory is made if need be."""
    try:
        return path.open("xb", buffering=0)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sync_names(path.parent.parent)
        _sync_names(path.parent.parent.parent)
        return path.open("xb", buffering=0)


def _write_all(file: IO[bytes], block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) :]


def _sync_names(directory: Path) -> None:
    """Make the names of the files in a directory durable. Windows has no way to, and keeps them without."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
