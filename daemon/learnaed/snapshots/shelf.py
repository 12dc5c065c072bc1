"""The swarm's snapshots on disk: pinned in the block store, into which the trainer writes; used by the driver."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Iterator
from typing import Final

from learnae.cid import to_text
from learnae.errors import StoreError, WireError
from learnae.layout import Layout
from learnae.snapshot import header, longest_header, read_header
from learnaed import logs
from learnaed.blockstore import BlockStore, Lease, NoRoom

CUT: Final = "cut"
"""Kind of the pins of what the swarm's cuts need: they come and go with the cuts."""
LARGEST_HEADER: Final = 16 * 1024 * 1024
"""Bytes of a snapshot beside its weights."""
_EXPONENTS = range(-120, 97)

log = logs.get("snapshots")


class Shelf:
    """The complete snapshots. Safe to use from several threads; its methods wait for the disk.

    Args:
        store: where the blocks lie.
    """

    def __init__(self, store: BlockStore) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._writing: dict[Hashable, Lease] = {}
        self._cids = frozenset(pin.root for pin in store.pins() if pin.kind == CUT)
        self.untidy = True
        """There may be blocks that nobody needs: set here, and taken back by whoever swept."""

    @property
    def cids(self) -> frozenset[bytes]:
        """The roots of the snapshots."""
        return self._cids

    # --- the trainer writes

    def begin_writing(self, what: Hashable = None, size: int = 0) -> None:
        """The trainer is about to write a snapshot, of `size` bytes: nothing is collected until `end_writing`.

        Milestones are given up, the oldest first, where there is no room for it otherwise.

        Args:
            what: tells it from others that are being written.

        Raises:
            NoRoom: there is no room for it, even so.
        """
        if what in self._writing:
            return
        lease = self._writer(size)
        with self._lock:
            other = self._writing.setdefault(what, lease)
        if other is not lease:
            lease.release()

    def _writer(self, size: int) -> Lease:
        while True:
            try:
                return self.store.writer(size)
            except NoRoom:
                if not self.give_way():
                    raise

    def end_writing(self, what: Hashable = None) -> None:
        """It has written that, and what counts is pinned."""
        with self._lock:
            lease = self._writing.pop(what, None)
        if lease is None:
            return
        try:
            lease.release()
        except StoreError as error:
            log.warning("the blocks cannot be counted now", why=error)

    def end_all_writing(self) -> None:
        """The trainer that wrote is gone, or has written all that it wanted to."""
        for what in list(self._writing):
            self.end_writing(what)

    # --- what is here

    def add(self, root: bytes) -> bool:
        """A snapshot was written; False if it is not all there."""
        if root in self._cids:
            return True
        try:
            self.store.pin(root, CUT)
        except (StoreError, WireError) as error:
            log.warning("a snapshot cannot be kept", why=error)
            return False
        with self._lock:
            self._cids |= {root}
        return True

    def has(self, root: bytes) -> bool:
        """Whether a whole snapshot is on disk, added or not."""
        return not self.store.missing(root)

    def block(self, cid: bytes) -> bytes | None:
        """A block of any of them; None if it is not here or no longer what its name says."""
        return self.store.get(cid)

    def discard_damaged(self, root: bytes) -> bool:
        """Give up this snapshot if it is not what its name says; whether it was so."""
        if not self.store.damaged(root):
            return False
        log.warning("a snapshot is damaged, and given up", cid=to_text(root))
        self.drop(root)
        return True

    def keep_only(self, wanted: Iterable[bytes]) -> None:
        """Give up all snapshots but these and the milestones; a sweep then takes what nobody needs any more."""
        kept = frozenset(wanted)
        for pin in self.store.pins():
            if pin.kind == CUT and not pin.milestone and pin.root not in kept:
                self.drop(pin.root)
        self.untidy = True

    def give_way(self) -> bool:
        """Give up the oldest milestone for something newer; False if there is none."""
        oldest = next((pin.root for pin in self.store.pins() if pin.kind == CUT and pin.milestone), None)
        if oldest is None:
            return False
        log.warning("a milestone is given up: there is no room for it and for what is new", cid=to_text(oldest))
        self.drop(oldest)
        return True

    def drop(self, root: bytes) -> None:
        """Give this snapshot up, unless somebody else pinned it, too."""
        self.store.unpin(root, CUT)
        self.untidy = True
        with self._lock:
            self._cids -= {root}


def check_fit(layout: Layout, leaves: Iterator[bytes], size: int) -> None:
    """Look whether a file of these leaves and this size can be the snapshot of a replica with this layout.

    Raises:
        StoreError: it cannot, and no trainer could go on from it.
    """
    if not 0 < size - 4 * layout.size <= longest_header(layout):
        raise StoreError("it has more or fewer weights than the model", code="snapshot-foreign")
    exponents, _ = read_header(leaves, layout)
    if size != len(header(layout, exponents)) + 4 * layout.size:
        raise StoreError("it has more or fewer weights than the model", code="snapshot-foreign")
    if any(exponent not in _EXPONENTS for exponent in exponents):
        raise StoreError("its units are out of range", code="snapshot-foreign")
