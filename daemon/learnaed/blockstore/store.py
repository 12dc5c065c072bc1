"""The embedded store of snapshots: blocks in files under a size cap, pins, leases, garbage collection.

A pin marks its blocks in the database when it is made, a lease marks them in memory while they come. A *sweep* goes
through the directories, a few blocks at each step, and deletes what carries no mark at that moment. Marks and each step
of a sweep exclude each other by a lock. So whatever comes between two steps is seen by the next, and a damaged node
does not cost the blocks below it.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from learnae import unixfs
from learnae.blocks import SHARDS, Blocks, Stored
from learnae.cid import DAG_PB, codec_of, digest_of, make_cid, to_text
from learnae.errors import StoreError, WireError, disk_code
from learnaed import logs
from learnaed.blockstore.lease import Lease
from learnaed.blockstore.pins import MAX_ABOUT, Pin, PinBook, open_book

CAP: Final = 20 * 2**30
"""Most bytes of blocks, by default."""
MARGIN: Final = 64 * 2**20
"""Bytes that stay free on the disk."""
LEFT_SECONDS: Final = 86_400.0
"""How long what came of a download stays that nobody goes on with."""
SLICE: Final = 16
"""Blocks that a sweep looks at while nobody else can use the store: deleting one takes about a millisecond."""
_REMEMBERED_DAMAGE: Final = 1024

log = logs.get("blocks")


class NoRoom(StoreError):
    """The cap or the disk leaves no room, even without all that is not pinned."""


class Collected(NamedTuple):
    """What a sweep, or a step of one, did."""

    blocks: int
    bytes: int
    finished: bool
    """Whether it went through everything: it does not while somebody writes, or after pins were lost."""


@dataclass(frozen=True, slots=True)
class BlockStoreStatistics:
    """Figures for the status endpoint."""

    path: str
    bytes: int
    """Of all blocks, pinned or not; a process that writes under `writer` is counted when it has ended."""
    reserved: int
    """Bytes that are set aside for what is on its way."""
    cap: int
    pins: int
    leases: int
    collected: int
    """Blocks that were swept since the start."""
    collected_bytes: int
    damaged: int
    """Blocks that were found damaged since the start."""
    complete: bool
    """False: the pins were lost, and nothing is swept until `pins_are_complete`."""


class BlockStore:
    """Blocks, pins and leases in one directory. Safe to use from several threads; its methods wait for the disk.

    A *root* is the CID of a file (see `learnae.unixfs`) or of a single block: links in DAG-CBOR are not followed.

    Args:
        directory: made if need be. Blocks lie in `blocks` in it, where a trainer may write and read them.
        cap: most bytes of blocks. What is not pinned goes when there is no room.
        margin: bytes that stay free on the disk.
        clock: seconds since the epoch.

    Raises:
        StoreError: from every method: the disk cannot be read or written, or the database of pins is damaged; a
            new start then moves it aside.
        WireError: from every method that takes a CID: it is none, or a node is none that `learnae.unixfs` would make.
    """

    def __init__(
        self, directory: Path, *, cap: int = CAP, margin: int = MARGIN, clock: Callable[[], float] = time.time
    ) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the directory {directory} for snapshots cannot be made: {error.strerror}; make it, or use another "
                "--profile",
                code=disk_code(error, "file-unwritable"),
            ) from error
        self._directory = directory
        self._cap = cap
        self._margin = margin
        self._clock = clock
        self._lock = threading.RLock()
        self._damaged: deque[bytes] = deque(maxlen=_REMEMBERED_DAMAGE)
        self._collected = self._collected_bytes = 0
        self._held: set[Lease] = set()
        self._writers: set[Lease] = set()
        self.blocks = Blocks(directory / "blocks", self._note_damage)
        """The files; for a process that writes them itself, under a `writer` lease."""
        self._used = 0
        self._count()
        self._book: PinBook = open_book(directory / "pins.sqlite", empty=not self._used)
        self._left = {root: self._reach(root) for root in self._book.downloads()}

    def set_cap(self, cap: int) -> None:
        """Most bytes of blocks from now on. What is here stays until there is no room for something new."""
        with self._lock:
            self._cap = cap

    def close(self) -> None:
        """Close the database. Leases end as if the process had died."""
        self._book.close()

    # --- blocks

    def has(self, cid: bytes) -> bool:
        """Whether the block is here; whether it is sound shows when it is read."""
        return self.blocks.has(cid)

    def size(self, cid: bytes) -> int | None:
        """Bytes of the block; None if it is not here."""
        return self.blocks.size(cid)

    def get(self, cid: bytes) -> bytes | None:
        """The block, checked; None if it is not here, or was damaged and is dropped now."""
        return self.blocks.get(cid)

    def missing(self, root: bytes) -> tuple[bytes, ...]:
        """The blocks of this root that are not here, as far as its nodes are; empty if it is all here."""
        steps = unixfs.walk(root, self.get)
        return tuple(step.cid for step in steps if step.missing or not self.has(step.cid))

    def damaged(self, root: bytes) -> tuple[bytes, ...]:
        """Read and check all blocks of this root, drop those that are damaged; what is missing then."""
        for step in unixfs.walk(root, self.get):
            self.get(step.cid)
        return self.missing(root)

    def stream(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All blocks of this root with their CIDs, each once, parents first.

        Raises:
            unixfs.MissingBlock: one is not here.
        """
        for step in unixfs.walk(root, self.get):
            block = self.get(step.cid)
            if block is None:
                raise unixfs.MissingBlock(step.cid)
            yield step.cid, block

    def read(self, root: bytes) -> Iterator[bytes]:
        """The file with this root, leaf by leaf.

        Raises:
            unixfs.MissingBlock: one is not here.
        """
        return unixfs.read(root, self.get)

    def take_damaged(self) -> tuple[bytes, ...]:
        """The CIDs of blocks that were found damaged, and dropped, since this was asked last; to be fetched again."""
        with self._lock:
            found = tuple(dict.fromkeys(self._damaged))
            self._damaged.clear()
        return found

    def _note_damage(self, cid: bytes) -> None:
        log.warning("a block on the disk was damaged; it is dropped", cid=to_text(cid))
        with self._lock:
            self._damaged.append(cid)

    # --- pins

    def pin(
        self,
        root: bytes,
        kind: str,
        *,
        label: str = "",
        milestone: bool = False,
        about: Mapping[str, Any] | None = None,
    ) -> Pin:
        """Have all blocks of this root stay; durable when this returns. Pinning again replaces what is noted
        with it, but a milestone stays one.

        Args:
            root: its CID; all its blocks are here.
            kind: who wants it. Each kind has its own pin, which others do not take away.
            label: for people.
            milestone: noted with it.
            about: JSON of at most 4 KiB, noted with it.

        Raises:
            StoreError: some blocks are not here.
        """
        about = dict(about or {})
        if len(json.dumps(about)) > MAX_ABOUT:
            raise ValueError(f"what is noted with a pin has more than {MAX_ABOUT} bytes")
        with self._lock:
            digests, absent = set(), 0
            for step in unixfs.walk(root, self.get):
                digests.add(digest_of(step.cid))
                absent += step.missing or not self.has(step.cid)
            block = self.get(root)
            if absent or block is None:
                raise StoreError(
                    f"{to_text(root)} cannot be pinned: {absent or 1} of its blocks are not here; fetch it first",
                    code="snapshot-damaged",
                )
            pin = Pin(root, kind, label, self._clock(), unixfs.size_of(root, block), milestone, about)
            pin = self._book.pin(pin, digests)
            self._forget([root])  # From now on the pin protects what came of the download.
            return pin

    def unpin(self, root: bytes, kind: str | None = None) -> bool:
        """Drop the pin of this kind, or, without one, of all; whether there was any. The blocks go with a sweep."""
        return bool(self._book.unpin(root, kind))

    def pins(self) -> tuple[Pin, ...]:
        """All pins, the oldest first."""
        return self._book.pins()

    def is_pinned(self, cid: bytes) -> bool:
        """Whether a pin needs the block, be it here or not."""
        return self._book.marked(digest_of(cid))

    def pins_are_complete(self) -> None:
        """Say that all that should be pinned is, after the database was lost: from now on the rest may be swept."""
        self._book.set_complete()

    # --- leases

    def lease(self, root: bytes | None = None, size: int = 0) -> Lease:
        """Protect what is on its way.

        Args:
            root: of a download. What came of it is protected even after a crash, for a day.
            size: bytes of all its blocks, as far as that is known; see `Lease.expect`.

        Raises:
            NoRoom: there is not so much room, even without all that is not pinned.
        """
        lease = Lease(root, self._put_all, self._expect, self._release)
        with self._lock:
            left = None if root is None else self._left.pop(root, None)
            if root is not None:
                lease.digests = self._reach(root) | (left or set())
                self._book.begin(root, self._clock())
            self._held.add(lease)
        try:
            self._expect(lease, size)
        except BaseException:
            self._release(lease, keep=left is not None)
            raise
        return lease

    def writer(self, size: int = 0) -> Lease:
        """Protect what another process writes straight into `blocks`, and what it finds there: no sweep meanwhile.

        Release it when its root is pinned, or the process dead. It does not survive this process.

        Args:
            size: most bytes that it writes.

        Raises:
            NoRoom: there is not so much room, even without all that is not pinned.
        """
        lease = self.lease(size=size)
        with self._lock:
            self._writers.add(lease)
        return lease

    def _follow(self, nodes: set[bytes] | None = None, but: Lease | None = None) -> None:
        """Have downloads protect what lies below these nodes, which somebody else brought, or below any.

        They find it here, and do not fetch it.
        """
        downloads = [(lease.root, lease.digests) for lease in self._held if lease.root and lease is not but]
        for root, digests in [*downloads, *self._left.items()]:
            if nodes is None or nodes & digests:
                digests |= self._reach(root)

    def _protected(self) -> list[set[bytes]]:
        return [*(lease.digests for lease in self._held), *self._left.values()]

    def _reach(self, root: bytes) -> set[bytes]:
        """The digests of the blocks that a root leads to, here or not."""
        found: set[bytes] = set()
        try:
            found.update(digest_of(step.cid) for step in unixfs.walk(root, self.get))
        except WireError as error:
            log.debug("a download is not of a file", root=to_text(root), why=error)
        return found

    def _sweep_if_short(self, size: int) -> None:
        """Sweep before the lock is taken: others need not wait for all of it."""
        with self._lock:
            short = self._lacking(size) > 0
        if short:
            self.collect()

    def _expect(self, lease: Lease, size: int) -> None:
        self._sweep_if_short(size - lease.reserved)
        self._reserve(lease, size)

    def _reserve(self, lease: Lease, size: int) -> None:
        with self._lock:
            digests = frozenset(lease.digests) if size else frozenset()
        here = sum(self.blocks.size_of(digest) or 0 for digest in digests)  # others need not wait for the disk
        with self._lock:
            before, lease.reserved = lease.reserved, max(0, size - here)
            if not lease.reserved:
                return
            try:
                self._make_room(0)
            except StoreError:
                lease.reserved = before
                raise

    def _release(self, lease: Lease, keep: bool) -> None:
        with self._lock:
            if lease not in self._held:
                return
            self._held.remove(lease)
            if lease in self._writers:
                self._writers.remove(lease)
                self._count()
                self._follow()
            root = lease.root
            if root is None or any(other.root == root for other in self._held):
                return
            if keep:
                self._left[root] = lease.digests
                self._book.begin(root, self._clock())
            else:
                self._book.end([root])

    def _put_all(self, lease: Lease, blocks: Iterable[tuple[int, bytes]]) -> tuple[bytes, ...]:
        cids: list[bytes] = []
        seen: set[bytes] = set()
        size, written = 0, False
        try:
            with self.blocks.batch() as batch:
                for codec, block in blocks:
                    cid = make_cid(codec, block)
                    if cid not in seen:
                        size += self._admit(lease, cid, block)
                        batch.put_named(cid, block)
                    seen.add(cid)
                    cids.append(cid)
            written = True
        finally:
            with self._lock:
                lease.arriving -= size
                if written:
                    self._used += size
                    self._follow({digest_of(cid) for cid in seen if codec_of(cid) == DAG_PB}, lease)
        return tuple(cids)

    def _admit(self, lease: Lease, cid: bytes, block: bytes) -> int:
        """Mark a block, and what it leads to, before it is written: from here on no sweep takes it. Bytes to write."""
        with self._lock:
            if lease not in self._held:
                raise StoreError("a block came under a lease that has ended: take a new one", code="defect")
            steps = unixfs.walk(cid, lambda below: block if below == cid else self.get(below))
            lease.digests.update([digest_of(step.cid) for step in steps])
            size = len(block)
            if self.size(cid) == size:
                return 0
            self._make_room(max(0, size - lease.reserved))
            lease.reserved -= min(lease.reserved, size)
            lease.arriving += size
        return size

    # --- room

    def collect(self, stop: Callable[[], bool] = lambda: False) -> Collected:
        """Delete all blocks that are neither pinned nor protected; others may go on using the store meanwhile.

        Args:
            stop: asked after each step; True ends it early, which does no harm.
        """
        blocks = size = 0
        for step in self.collecting():
            blocks, size = blocks + step.blocks, size + step.bytes
            if not step.finished or stop():
                return Collected(blocks, size, finished=False)
        with self._lock:
            self._count()
        return Collected(blocks, size, finished=True)

    def collecting(self) -> Iterator[Collected]:
        """The same, step by step, with what each step did."""
        with self._lock:
            now = self._clock()
            ages = {root: abs(now - since) for root, since in self._book.downloads().items()}
            self._forget([root for root, age in ages.items() if age > LEFT_SECONDS])
            for root in {lease.root for lease in self._held if lease.root}:
                if ages[root] > LEFT_SECONDS / 2:  # It is gone on with: a crash costs it nothing.
                    self._book.begin(root, now)
        self.blocks.tidy()
        for shard in range(SHARDS):
            ahead = self.blocks.shard(shard)
            for start in range(0, len(ahead) or 1, SLICE):
                yield self._sweep(shard, ahead[start : start + SLICE])

    def _sweep(self, shard: int, candidates: Sequence[Stored]) -> Collected:
        """Delete those of these blocks that nobody needs at this moment, whatever was when they were listed."""
        blocks = size = 0
        with self._lock:
            if self._writers or not self._book.complete:
                return Collected(0, 0, finished=False)
            pinned = self._book.pinned(shard) if candidates else frozenset()
            protected = self._protected()
            for stored in candidates:
                if stored.digest in pinned or any(stored.digest in digests for digests in protected):
                    continue
                if self.blocks.delete(stored.digest):
                    blocks += 1
                    size += stored.size
            self._used = max(0, self._used - size)
            self._collected += blocks
            self._collected_bytes += size
        return Collected(blocks, size, finished=True)

    def _forget(self, roots: Iterable[bytes]) -> None:
        """Give up downloads that nobody goes on with."""
        given_up = [root for root in roots if root in self._left]
        for root in given_up:
            del self._left[root]
        if given_up:
            self._book.end(given_up)

    def _make_room(self, wanted: int) -> None:
        """Sweep if `wanted` bytes more would pass a bound; then give up downloads that nobody goes on with."""
        if self._lacking(wanted) <= 0:
            return
        self.collect()
        if self._lacking(wanted) > 0 and self._left:
            self._forget(list(self._left))
            self.collect()
        lacking = self._lacking(wanted)
        if lacking <= 0:
            return
        if self._writers:
            why = "a snapshot is being written, until then nothing can be deleted: try again"
        elif not self._book.complete:
            why = "the list of pins was lost, and nothing is deleted until it is complete again"
        else:
            why = "all that is there is pinned or on its way: unpin snapshots, allow more, or make room on the disk"
        raise NoRoom(
            f"no room for more snapshots in {self._directory}: {lacking >> 10} KiB are lacking ({self._used >> 20} MiB "
            f"are used, {self._cap >> 20} MiB allowed, {self._free() >> 20} MiB free on the disk). {why[0].upper()}"
            f"{why[1:]}",
            code="snapshots-full",
        )

    def _lacking(self, wanted: int) -> int:
        more = sum(lease.reserved + lease.arriving for lease in self._held) + wanted
        return max(self._used + more - self._cap, self._margin + more - self._free() if more else 0)

    def _count(self) -> None:
        """Look how much is there: others write too, and what was damaged is gone."""
        self._used = sum(stored.size for stored in self.blocks)

    def _free(self) -> int:
        try:
            return shutil.disk_usage(self._directory).free
        except OSError as error:
            raise StoreError(
                f"the disk of {self._directory} cannot be asked for its room: {error.strerror}", code="file-unreadable"
            ) from error

    def statistics(self) -> BlockStoreStatistics:
        """Figures for the status endpoint."""
        held = tuple(self._held)  # without the lock, which a sweep may have for long
        return BlockStoreStatistics(
            path=str(self._directory),
            bytes=self._used,
            reserved=sum(lease.reserved for lease in held),
            cap=self._cap,
            pins=len(self._book.pins()),
            leases=len(held),
            collected=self._collected,
            collected_bytes=self._collected_bytes,
            damaged=self.blocks.statistics().damaged,
            complete=self._book.complete,
        )
