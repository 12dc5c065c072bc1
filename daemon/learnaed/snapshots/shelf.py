"""The snapshots on disk, each a file with its links block beside it: found, served by block, deleted; see `service`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from learnae.cid import CID_BYTES, raw_cid
from learnae.errors import StoreError, WireError
from learnae.layout import Layout
from learnae.snapshot import LEAF, exists, header, links_path, parse_links, read, read_header, snapshot_path
from learnae.wire import MAX_PART
from learnaed import logs

_STRIDE = CID_BYTES + 2
"""Bytes from one leaf's CID to the next in a links block, whose end they are."""
MOST_BYTES: Final = (MAX_PART - 16) // _STRIDE * LEAF
"""Largest snapshot whose links block peers can ask for: 1.68 GiB."""
_EXPONENTS = range(-120, 97)

log = logs.get("snapshots")


class _Known(NamedTuple):
    links: bytes
    leaves: int


class Shelf:
    """The complete snapshots in one directory. Safe to use from several threads; its methods wait for the disk.

    It holds 38 bytes for each leaf of 256 KiB. What the trainer has written counts from `add` on: before, it is left
    alone.
    """

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._known: dict[bytes, _Known] = {}
        self._lock = threading.Lock()

    @property
    def directory(self) -> Path:
        """Where the snapshots lie."""
        assert self._directory is not None, "the trainer says where, when it is ready"
        return self._directory

    @property
    def cids(self) -> frozenset[bytes]:
        """The snapshots."""
        return frozenset(self._known)

    def open(self, directory: Path) -> frozenset[bytes]:
        """Look into a directory; the snapshots that are complete there. What is left of others is deleted."""
        with self._lock:
            self._directory = directory
            self._known = {}
        for path in directory.glob("*.links"):
            try:
                data = path.read_bytes()
                cid = raw_cid(data)
                if links_path(directory, cid) != path or not self._add(cid, data):
                    log.warning("an incomplete snapshot is deleted", path=path)
                    path.unlink()
            except OSError as error:
                log.warning("a snapshot cannot be read", path=path, why=error)
        return self.cids

    def add(self, cid: bytes) -> bool:
        """A snapshot was written; False if it is not there, or not whole."""
        try:
            return self._add(cid, links_path(self.directory, cid).read_bytes())
        except OSError as error:
            log.warning("a snapshot cannot be read", why=error)
            return False

    def _add(self, cid: bytes, data: bytes) -> bool:
        file = snapshot_path(self.directory, cid)
        try:
            links = parse_links(data)
        except WireError:
            return False
        if raw_cid(data) != cid or not file.exists() or file.stat().st_size != links.size:
            return False
        with self._lock:
            self._known = self._known | {cid: _Known(data, len(links.leaves))}
        return True

    def has(self, cid: bytes) -> bool:
        """Whether a whole snapshot is on disk, added or not."""
        return exists(self.directory, cid)

    def path(self, cid: bytes) -> Path:
        """The file of a snapshot."""
        return snapshot_path(self.directory, cid)

    def block(self, cid: bytes) -> bytes | None:
        """A links block or a leaf; None if it is not here or no longer what its name says."""
        known = self._known
        if cid in known:
            return known[cid].links
        for name, (links, leaves) in known.items():
            at = links.find(cid)
            if at < 0:
                continue
            number = leaves - (len(links) - at + 2) // _STRIDE
            with contextlib.suppress(OSError), self.path(name).open("rb") as file:
                file.seek(number * LEAF)
                leaf = file.read(LEAF)
                if raw_cid(leaf) == cid:
                    return leaf
        return None

    def discard_damaged(self, cid: bytes) -> bool:
        """Delete this snapshot if it is not what its name says; whether it was."""
        try:
            for _ in read(self.path(cid)):
                pass
            return False
        except StoreError as error:
            log.warning("a damaged snapshot is deleted", why=error)
            self._delete(cid)
            return True

    def keep_only(self, wanted: Iterable[bytes]) -> None:
        """Delete all snapshots but these, drafts of others included."""
        kept = frozenset(wanted)
        for cid in self.cids - kept:
            self._delete(cid)
        drafts = {draft_path(self.directory, cid) for cid in kept}
        for path in self.directory.glob(f"*{_DRAFT}"):
            if path not in drafts:
                self._unlink(path)

    def _delete(self, cid: bytes) -> None:
        with self._lock:
            self._known = {name: known for name, known in self._known.items() if name != cid}
        # First of all the links: without them there is no snapshot.
        if self._unlink(links_path(self.directory, cid)):
            self._unlink(self.path(cid))

    @staticmethod
    def _unlink(path: Path) -> bool:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("a snapshot cannot be deleted", why=error)
            return False
        return True


def check_fit(layout: Layout, leaves: Iterator[bytes], size: int) -> None:
    """Look whether a file of these leaves and this size can be the snapshot of a replica with this layout.

    Raises:
        StoreError: it cannot, and no trainer could go on from it.
    """
    exponents, _ = read_header(leaves, layout)
    if size != len(header(layout, exponents)) + 4 * layout.size:
        raise StoreError("it has more or fewer weights than the model")
    if any(exponent not in _EXPONENTS for exponent in exponents):
        raise StoreError("its units are out of range")


_DRAFT = ".partial"


def draft_path(directory: Path, cid: bytes) -> Path:
    """Where a snapshot lies that is not complete yet."""
    return snapshot_path(directory, cid).with_suffix(_DRAFT)
