"""What one peer wants of us: bounded, in the order of its priorities, without input or output; used by `engine`."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Final

from learnaed.network.bitswap.wire import Entry, digest_of

MAX_WANTS: Final = 1024
"""Wants of one peer that are remembered; go-bitswap's own limit."""


class Ledger:
    """The wants of one peer. A want is *due* until answered, then gone, or *standing* if the block is not here."""

    def __init__(self) -> None:
        self._wants: dict[bytes, Entry] = {}
        self._due: list[tuple[int, int, bytes]] = []
        self._queued: set[bytes] = set()
        self._order = 0
        self.refused = 0
        """Wants beyond `MAX_WANTS`, and CIDs of a kind that is never served."""

    def __len__(self) -> int:
        return len(self._wants)

    @property
    def has_due(self) -> bool:
        """Whether anything waits for an answer."""
        return bool(self._queued)

    def update(self, entries: Iterable[Entry], *, full: bool) -> None:
        """Take in a wantlist; `full` forgets the one before."""
        if full:
            self.clear()
        for entry in entries:
            digest = digest_of(entry.cid)
            if digest is None:
                self.refused += 1
            elif entry.cancel:
                self._forget(digest)
            elif digest not in self._wants and len(self._wants) >= MAX_WANTS:
                self.refused += 1
            else:
                known = self._wants.get(digest)
                if known is not None and entry.have and not known.have:
                    continue  # who asks for a block need not be told that it is here
                self._wants[digest] = entry
                self._enqueue(digest, entry)

    def arrived(self, digest: bytes) -> None:
        """The block has come: if the peer waits for it, the want is due again."""
        entry = self._wants.get(digest)
        if entry is not None:
            self._enqueue(digest, entry)

    def next_due(self) -> Entry | None:
        """The most urgent want, to be answered now: it stays as a standing one until `answered`."""
        while self._due:
            _, _, digest = heappop(self._due)
            if digest in self._queued:
                self._queued.discard(digest)
                return self._wants[digest]
        return None

    def answered(self, entry: Entry) -> None:
        """The block, or the word that it is here, is on its way."""
        digest = digest_of(entry.cid)
        if digest is not None and digest not in self._queued:
            self._wants.pop(digest, None)

    def clear(self) -> None:
        """Forget all."""
        self._wants.clear()
        self._queued.clear()
        self._due.clear()

    def _enqueue(self, digest: bytes, entry: Entry) -> None:
        if digest in self._queued:
            return
        self._order += 1
        self._queued.add(digest)
        heappush(self._due, (-entry.priority, self._order, digest))

    def _forget(self, digest: bytes) -> None:
        self._wants.pop(digest, None)
        self._queued.discard(digest)
        if len(self._due) > 4 * MAX_WANTS:  # cancelled ones are left in the heap, but not for ever
            kept: dict[bytes, tuple[int, int, bytes]] = {}
            for item in sorted(self._due):
                if item[2] in self._queued:
                    kept.setdefault(item[2], item)
            self._due = list(kept.values())
