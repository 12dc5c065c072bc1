"""Brings one snapshot to disk, from several peers at a time, leaf by leaf; used by the driver."""

from __future__ import annotations

import os
import shutil
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from learnae.cid import raw_cid
from learnae.errors import NetworkError, StoreError, WireError
from learnae.peer import short
from learnae.snapshot import LEAF, Links, links_path, parse_links, snapshot_path
from learnaed import durable, logs
from learnaed.asker import BLOCKS_AT_ONCE
from learnaed.snapshots.shelf import draft_path

PARALLEL: Final = 4
"""Most requests at a time, each to another peer."""
SLOWEST: Final = 16 * 1024
"""Bytes per second below which a peer is given up, after a pause."""
PAUSE: Final = 10.0
_STRIKES: Final = 2
"""Failures after which a peer is not asked again; one lie has the same effect."""
_MARGIN: Final = 64 * 1024 * 1024
"""Bytes that stay free on the disk."""

Ask = Callable[[bytes, Sequence[bytes]], Awaitable[tuple[bytes, ...] | None]]

log = logs.get("snapshots")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a download is."""

    cid: bytes
    done: int
    """Bytes on disk."""
    size: int
    """Bytes in all; 0 while that is unknown."""
    holders: int
    """Peers that give it."""


class Download:
    """One snapshot on its way. Each leaf is verified and written when it comes; a later attempt goes on from there.

    Args:
        directory: where snapshots lie.
        cid: the snapshot.
        holders: peers that may have it.
        ask: asks a peer for blocks.
        limit: most bytes that the snapshot may have.
        check: looks at the leaves and the size of the whole; raises `StoreError` if that is of no use. Default: any is.
    """

    def __init__(
        self,
        directory: Path,
        cid: bytes,
        holders: Sequence[bytes],
        ask: Ask,
        limit: int,
        check: Callable[[Iterator[bytes], int], None] = lambda leaves, size: None,
    ) -> None:
        self._directory = directory
        self._cid = cid
        self._idle = deque(holders)
        self._holders = set(holders)
        self._strikes: Counter[bytes] = Counter()
        self._ask = ask
        self._limit = limit
        self._check = check
        self._links = Links(0, ())
        self._missing: deque[int] = deque()
        self._done = 0

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return Progress(self._cid, self._done, self._links.size, len(self._holders))

    async def run(self) -> None:
        """Fetch all that is missing, and complete the snapshot.

        Raises:
            NetworkError: no peer gives what is still missing, or it is no snapshot of this model.
            StoreError: the disk is full or the directory not writable.
        """
        self._links = await self._fetch_links()
        self._missing.extend(await trio.to_thread.run_sync(self._prepare))
        self._done = self._links.size - sum(map(self._size, self._missing))
        failures: list[StoreError] = []
        async with trio.open_nursery() as nursery:
            for _ in range(PARALLEL):
                nursery.start_soon(self._work, failures, nursery.cancel_scope)
        if failures:
            raise failures[0]
        if self._missing:
            raise NetworkError(
                f"no peer gives the rest of the snapshot; {self._done} of {self._links.size} bytes are here"
            )
        await trio.to_thread.run_sync(self._complete)

    # --- from the peers

    async def _fetch_links(self) -> Links:
        for _ in range(_STRIKES * len(self._idle)):
            if not self._idle:
                break
            holder = self._idle.popleft()
            data = (await self._blocks(holder, [self._cid]) or (b"",))[0]
            if raw_cid(data) != self._cid:
                self._fault(holder, lie=bool(data))
                continue
            self._idle.append(holder)
            try:
                links = parse_links(data)
            except WireError as error:
                raise NetworkError(f"what the peers call a snapshot is none: {error}") from error
            if links.size > self._limit:
                raise NetworkError(f"what the peers call a snapshot has {links.size} bytes; this model's are smaller")
            return links
        raise NetworkError("no peer gives the snapshot")

    async def _work(self, failures: list[StoreError], everybody: trio.CancelScope) -> None:
        try:
            await self._take_leaves()
        except StoreError as error:
            failures.append(error)
            everybody.cancel()

    async def _take_leaves(self) -> None:
        while self._missing and self._idle:
            holder = self._idle.popleft()
            wanted = [self._missing.popleft() for _ in range(min(BLOCKS_AT_ONCE, len(self._missing)))]
            taken = 0
            try:
                leaves = await self._blocks(holder, [self._links.leaves[number] for number in wanted])
                for number, leaf in zip(wanted, leaves or (), strict=False):
                    if raw_cid(leaf) != self._links.leaves[number]:
                        break
                    await trio.to_thread.run_sync(self._write, number, leaf)
                    self._done += len(leaf)
                    taken += 1
            finally:
                self._missing.extendleft(reversed(wanted[taken:]))
            if leaves is not None and taken == len(leaves):
                self._idle.append(holder)
            else:
                self._fault(holder, lie=leaves is not None)

    async def _blocks(self, holder: bytes, cids: Sequence[bytes]) -> tuple[bytes, ...] | None:
        with trio.move_on_after(PAUSE + len(cids) * LEAF / SLOWEST):
            return await self._ask(holder, cids)
        return None

    def _fault(self, holder: bytes, *, lie: bool) -> None:
        self._strikes[holder] += _STRIKES if lie else 1
        if self._strikes[holder] < _STRIKES:
            self._idle.append(holder)
            return
        self._holders.discard(holder)
        log.info("a peer is asked no more for this snapshot", peer=short(holder), lied=lie)

    # --- to the disk

    @property
    def _draft(self) -> Path:
        return draft_path(self._directory, self._cid)

    def _size(self, number: int) -> int:
        return min(LEAF, self._links.size - number * LEAF)

    def _prepare(self) -> list[int]:
        """Make the draft, or look what an earlier one holds; the numbers of the leaves that are missing."""
        missing: list[int] = []
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with self._draft.open("a+b") as file:
                file.truncate(self._links.size)
                file.seek(0)
                for number, cid in enumerate(self._links.leaves):
                    if raw_cid(file.read(self._size(number))) != cid:
                        missing.append(number)
            room = shutil.disk_usage(self._directory).free
        except OSError as error:
            raise self._no_disk(error) from error
        needed = sum(map(self._size, missing)) + _MARGIN
        if needed > room:
            raise self._no_disk(f"{needed >> 20} MiB are needed and {room >> 20} MiB are free")
        return missing

    def _write(self, number: int, leaf: bytes) -> None:
        try:
            with self._draft.open("r+b") as file:
                file.seek(number * LEAF)
                file.write(leaf)
        except OSError as error:
            raise self._no_disk(error) from error

    def _complete(self) -> None:
        links, final = links_path(self._directory, self._cid), snapshot_path(self._directory, self._cid)
        try:
            with self._draft.open("rb") as file:
                self._check(iter(partial(file.read, LEAF), b""), self._links.size)
        except StoreError as error:
            self._draft.unlink()
            raise NetworkError(f"what the peers call a snapshot is none of this model: {error}") from error
        except OSError as error:
            raise self._no_disk(error) from error
        try:
            with self._draft.open("r+b") as file:
                os.fsync(file.fileno())
            self._draft.replace(final)
            durable.sync_names(self._directory)  # The data have their name before the links have theirs.
            durable.replace(links, self._links.encode())
        except OSError as error:
            raise self._no_disk(error) from error

    def _no_disk(self, why: object) -> StoreError:
        return StoreError(
            f"a snapshot cannot be written to {self._directory}: {why}. Make room on the disk; it is tried again, and "
            "goes on from what is there"
        )
