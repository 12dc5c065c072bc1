"""Brings one snapshot into the block store, from several peers at a time, block by block; used by the driver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import trio

from learnae import unixfs
from learnae.cid import DAG_PB, codec_of, to_text
from learnae.errors import NetworkError, StoreError, WireError
from learnae.peer import peer_id
from learnae.unixfs import Child
from learnaed import logs
from learnaed.blockstore import BlockStore, Lease
from learnaed.network import Drop
from learnaed.snapshots.shelf import CUT

TOGETHER: Final = 8
"""Blocks that are made durable together: more is faster, and so much more is fetched again after a crash."""
TELL_EVERY: Final = 5.0
"""Seconds between two lines of the log about a download."""
_SPEED_SECONDS: Final = 5.0
_LEAST_HELD: Final = 1024 * 1024
_MOST_HELD: Final = 8 * 1024 * 1024

log = logs.get("snapshots")


class _Unfit(NetworkError):
    """It cannot be a snapshot of this model, whoever gives it: what came of it is of no use."""


def held_of(size: int) -> int:
    """Bytes of a snapshot of this size that may be on their way or wait for the disk.

    With a batch that is being written they are less than a twentieth of 100 MB: so much is fetched again after a crash.
    """
    return max(_LEAST_HELD, min(size // 40, _MOST_HELD))


class Blocks(Protocol):
    """The part of a Bitswap session that a download needs."""

    @property
    def ready(self) -> int: ...

    def want(self, cids: Sequence[bytes], sizes: Mapping[bytes, int]) -> None: ...

    def add(self, peer: str) -> None: ...

    def __aiter__(self) -> Blocks: ...

    async def __anext__(self) -> tuple[bytes, bytes]: ...


Open = Callable[[Sequence[str]], AbstractContextManager[Blocks]]
"""Begins a session with these peers."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a download is."""

    cid: bytes
    done: int
    """Bytes of the file that are here."""
    size: int
    """Bytes in all; 0 while that is unknown."""
    holders: int
    """Peers that were asked for it."""
    speed: float
    """Bytes per second lately."""

    @property
    def seconds_left(self) -> float | None:
        """None while that cannot be told."""
        return (self.size - self.done) / self.speed if self.size and self.speed else None


class Download:
    """One snapshot on its way. Each block is verified when it comes; a later attempt goes on from what is on disk.

    Args:
        store: takes the blocks.
        cid: root of the snapshot.
        holders: keys of peers that may have it.
        session: asks peers for blocks.
        limit: most bytes that the file may have.
        peers: peer ids of others that may have it.
        arrived: told of the blocks that are here now, for peers that wait for them.
        check: looks at the leaves and the size of the whole; raises `StoreError` if that is of no use. Default: any is.
    """

    def __init__(
        self,
        store: BlockStore,
        cid: bytes,
        holders: Sequence[bytes],
        session: Open,
        limit: int,
        check: Callable[[Iterator[bytes], int], None] = lambda leaves, size: None,
        peers: Sequence[str] = (),
        arrived: Callable[[Sequence[bytes]], None] = lambda cids: None,
    ) -> None:
        self._store = store
        self._cid = cid
        self._holders = dict.fromkeys((*map(peer_id, holders), *peers))
        self._blocks: Blocks | None = None
        self._session = session
        self._limit = limit
        self._check = check
        self._arrived = arrived
        self._size = self._done = 0
        self._links: dict[bytes, Child] = {}
        self._heights: dict[bytes, int] = {}
        """Of the nodes: how many levels there are from each down to its leaves."""
        self._leaves: dict[bytes, int] = {}
        """Bytes that those on their way must have."""
        self._children: dict[bytes, list[bytes]] = {}
        """What the nodes that are here name, as often as they do."""
        self._times: dict[bytes, int] = {}
        """How often each block stands in the file: zeros, for one, are many leaves and one block."""
        self._here: dict[bytes, int] = {}
        """Bytes of the leaves that are here."""
        self._pace = Pace()

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return Progress(self._cid, self._done, self._size, len(self._holders), self._pace.speed)

    def add(self, peers: Iterable[str]) -> None:
        """These may have it, too: they are asked from now on."""
        for peer in peers:
            if peer not in self._holders:
                self._holders[peer] = None
                if self._blocks is not None:
                    self._blocks.add(peer)

    async def run(self) -> None:
        """Fetch all that is missing.

        Raises:
            NetworkError: no peer gives what is still missing, or it is no snapshot of this model.
            StoreError: there is no room, or the disk cannot be written.
        """
        self._size = self._done = 0
        self._links, self._heights, self._leaves = {}, {}, {}
        self._children, self._times, self._here = {}, {self._cid: 1}, {}
        lease = await trio.to_thread.run_sync(self._store.lease, self._cid)
        complete, useful = False, True
        try:
            await self._fetch(lease)
            await trio.to_thread.run_sync(self._examine)
            await trio.to_thread.run_sync(self._pin)
            complete = True
        except _Unfit:
            useful = False
            raise
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(lease.release, keep=useful and not complete))
            log.info("download ended", cid=to_text(self._cid), complete=complete, bytes=self._done)

    async def _fetch(self, lease: Lease) -> None:
        missing = await trio.to_thread.run_sync(self._plan, lease)
        if not missing:
            return
        with self._session(tuple(self._holders)) as session:
            self._blocks = session
            try:
                self._want(session, missing)
                async for first in session:
                    await self._take(session, lease, first)
            except WireError as error:
                raise _Unfit(f"what the peers call a snapshot is none: {error}") from error
            finally:
                self._blocks = None

    def _want(self, session: Blocks, cids: Sequence[bytes]) -> None:
        session.want(cids, {cid: self._leaves[cid] for cid in cids if cid in self._leaves})

    async def _take(self, session: Blocks, lease: Lease, first: tuple[bytes, bytes]) -> None:
        batch = [first]
        while session.ready and len(batch) < TOGETHER:
            batch.append(await anext(session))
        for cid, block in batch:
            more = self._unfold(cid, block)
            if more:
                self._want(session, await trio.to_thread.run_sync(self._absent, more))
            if cid == self._cid:
                await trio.to_thread.run_sync(lease.expect, self._links[self._cid].tsize)
        await self._keep(lease, batch)

    async def _keep(self, lease: Lease, batch: Sequence[tuple[bytes, bytes]]) -> None:
        """Write several blocks at a time, while the next ones come."""
        try:
            await trio.to_thread.run_sync(lease.put_all, [(codec_of(cid), block) for cid, block in batch])
        except WireError as error:
            raise _Unfit(f"what the peers call a snapshot is none: {error}") from error
        self._arrived([cid for cid, _ in batch])
        before = self._done
        for cid, block in batch:
            self._note(cid, block)
        self._pace.add(self._done - before, trio.current_time())

    # --- what belongs to it

    def _plan(self, lease: Lease) -> list[bytes]:
        """What is missing, as far as the nodes that are here tell."""
        missing: list[bytes] = []
        ahead = [self._cid]
        while ahead:
            cid = ahead.pop()
            block = self._store.get(cid)
            if block is None:
                missing.append(cid)
                continue
            ahead += reversed(self._unfold(cid, block))
            self._note(cid, block)
        if self._cid in self._links:
            lease.expect(self._links[self._cid].tsize)
        return missing

    def _unfold(self, cid: bytes, block: bytes) -> list[bytes]:
        """Take in a block: the parts that it names, if it is a node.

        Raises:
            NetworkError: it cannot belong to a snapshot of this model.
        """
        if cid == self._cid:
            self._links[cid] = self._root(cid, block)
            self._size = self._links[cid].size
            self._heights[cid] = unixfs.height_of(self._size)
        if codec_of(cid) != DAG_PB:
            promised = self._leaves.pop(cid, len(block))
            if len(block) != promised:
                raise _Unfit(f"what the peers call a snapshot is none: {len(block)} bytes of {promised} in a leaf")
            return []
        try:
            children = unixfs.children_of(self._links[cid], block)
        except WireError as error:
            raise _Unfit(f"what the peers call a snapshot is none: {error}") from error
        height = self._heights[cid]
        leaves = all(codec_of(child.cid) != DAG_PB for child in children)
        parts = unixfs.parts_of(self._links[cid].size, height) if height > 0 else []
        if leaves != (height == 1) or [child.size for child in children] != parts:
            # Tiny leaves would take more room on the disk, and in memory, than a snapshot of this size may.
            raise _Unfit("what the peers call a snapshot is none: it is not cut into leaves of 256 KiB")
        self._children[cid] = [child.cid for child in children]
        for child in children:
            self._stands(child.cid, self._times[cid])
        self._heights |= {child.cid: height - 1 for child in children}
        new = [child for child in children if child.cid not in self._links]
        self._links |= {child.cid: child for child in new if codec_of(child.cid) == DAG_PB}
        self._leaves |= {child.cid: child.size for child in new if codec_of(child.cid) != DAG_PB}
        return list(dict.fromkeys(child.cid for child in new))

    def _stands(self, cid: bytes, times: int) -> None:
        """The block stands in the file so many times more."""
        self._times[cid] = self._times.get(cid, 0) + times
        self._done += times * self._here.get(cid, 0)
        for child in self._children.get(cid, ()):
            self._stands(child, times)

    def _note(self, cid: bytes, block: bytes) -> None:
        """A block is here: count it, if it is a leaf."""
        if codec_of(cid) != DAG_PB and cid not in self._here:
            self._here[cid] = len(block)
            self._done += self._times[cid] * len(block)

    def _root(self, cid: bytes, block: bytes) -> Child:
        try:
            children = unixfs.parse_node(block) if codec_of(cid) == DAG_PB else ()
        except WireError as error:
            raise _Unfit(f"what the peers call a snapshot is none: {error}") from error
        size = sum(child.size for child in children) if children else len(block)
        tsize = len(block) + sum(child.tsize for child in children)
        # Nodes are small beside what they hold, or there would be no end of them.
        if (not children and size > unixfs.LEAF) or max(size, tsize - size) > self._limit:
            raise _Unfit(
                f"what the peers call a snapshot has {size} bytes, and {tsize} in blocks; this model's are smaller"
            )
        return Child(cid, tsize, size)

    def _absent(self, cids: Sequence[bytes]) -> list[bytes]:
        """Those that are not here; what is here is unfolded, too."""
        absent: list[bytes] = []
        ahead = list(reversed(cids))
        while ahead:
            cid = ahead.pop()
            block = self._store.get(cid)
            if block is None:
                absent.append(cid)
                continue
            ahead += reversed(self._unfold(cid, block))
            self._note(cid, block)
        return absent

    def _pin(self) -> None:
        self._store.pin(self._cid, CUT)

    def _examine(self) -> None:
        try:
            for step in unixfs.walk(self._cid, self._store.get):
                size = self._store.size(step.cid)
                if size is None:
                    raise unixfs.MissingBlock(step.cid)
                if codec_of(step.cid) != DAG_PB and step.size not in (None, size):
                    raise WireError(f"a leaf of {size} bytes, where {step.size} were promised")
            self._check(unixfs.read(self._cid, self._store.get), self._size)
        except unixfs.MissingBlock as error:
            raise NetworkError(
                "a block of the snapshot was damaged on the disk; it is fetched again", code="snapshot-damaged"
            ) from error
        except (StoreError, WireError) as error:
            raise _Unfit(f"what the peers call a snapshot is none of this model: {error}") from error


def note_drop(peer: str, reason: Drop) -> None:
    """Write into the log that a peer is given up."""
    log.info("a peer is asked no more for this snapshot", peer=peer, why=reason.value)


class Tells(Protocol):
    """Whatever says how far it is."""

    @property
    def progress(self) -> Progress: ...


@asynccontextmanager
async def tell(download: Tells, look: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """Write into the log, now and then, how far a download is that runs within; `look` is called as often."""

    async def note() -> None:
        while True:
            await trio.sleep(TELL_EVERY)
            look()
            at = download.progress
            if at.size:
                speed = f"{at.speed / 1e6:.1f} MB/s"
                left = f"{at.seconds_left:.0f} s" if at.seconds_left is not None else "unknown"
                done = f"{at.done / 1e6:.1f} of {at.size / 1e6:.1f} MB"
                log.info("fetching a snapshot", done=done, speed=speed, left=left)

    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(note)
        try:
            yield
        except Exception as error:  # raised outside the nursery, which would wrap it in a group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class Pace:
    """Bytes per second over the last few seconds."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, int]] = []

    def add(self, size: int, now: float) -> None:
        """So many bytes came now."""
        self._marks = [mark for mark in self._marks if now - mark[0] < _SPEED_SECONDS] + [(now, size)]

    @property
    def speed(self) -> float:
        """0 until there is something to measure."""
        if len(self._marks) < 2:
            return 0.0
        (begin, _), *later = self._marks
        elapsed = later[-1][0] - begin
        return sum(size for _, size in later) / elapsed if elapsed > 0 else 0.0
