"""Which cuts stay: the last ones, milestones and what the user pins; on disk, and on an IPFS node. Used by the driver.

A cut stands here as two pins of the block store: its manifest, noted with what it says, and the snapshot that the
manifest links to. So it outlives the ledger's own log.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from learnae import unixfs
from learnae.cid import DAG_CBOR, cid_of, codec_of, from_text, make_cid, names, to_text
from learnae.errors import StoreError, WireError
from learnae.manifest import MAX_MANIFEST, Manifest
from learnae.unixfs import LEAF
from learnaed import logs
from learnaed.blockstore import Pin
from learnaed.snapshots.shelf import CUT, Shelf

MANIFEST: Final = "manifest"
"""Kind of the pins of manifests."""
USER: Final = "user"
"""Kind of the pins that the user made."""
MILESTONE: Final = 64
"""Of every so many intervals the first cut is kept for long: two or three a day with slots of a minute."""
NEWEST: Final = 4
"""So many milestones stay all; of the older ones every second, then every fourth, and so on."""
_MOST_READ: Final = 2 * 1024 * 1024
"""Bytes of manifests that are remembered, and not read again whenever somebody asks for the list."""

log = logs.get("snapshots")


@dataclass(frozen=True, slots=True)
class Kept:
    """A cut that is kept."""

    manifest: Manifest
    """What is in it."""
    since: float
    """When it was settled here, or came; seconds since the epoch."""
    milestone: bool
    pinned: bool
    """Whether the user wants it kept."""

    def row(self) -> dict[str, Any]:
        """For the status endpoint."""
        cut = self.manifest
        return {
            "index": cut.index,
            "cid": to_text(cut.cid),
            "weights": to_text(cut.weights),
            "size": cut.size,
            "updates": cut.updates,
            "samples": cut.samples,
            "loss": cut.intervals[-1].loss,
            "authors": len(cut.intervals[-1].vector.authors),
            "since": self.since,
            "milestone": self.milestone,
            "pinned": self.pinned,
        }


@dataclass(frozen=True, slots=True)
class Loose:
    """A snapshot that the user keeps and of which no cut is known."""

    weights: bytes
    size: int
    since: float

    def row(self) -> dict[str, Any]:
        """For the status endpoint: the same fields, as far as they are known."""
        unknown = dict.fromkeys(("index", "updates", "samples", "loss", "authors"))
        cid = to_text(self.weights)
        about = {"size": self.size, "since": self.since, "milestone": False, "pinned": True}
        return unknown | {"cid": cid, "weights": cid} | about


def lasting(numbers: Iterable[int]) -> set[int]:
    """Which of these milestones stay: the newest, and of the older ones ever fewer. All nodes choose the same.

    A number that is divisible by 2**k stays while it is among the newest `NEWEST` such numbers: of a thousand
    milestones twenty are left.
    """
    present = set(numbers)
    newest = max(present, default=0)
    return {n for n in present if not n or newest // (n & -n) - n // (n & -n) < NEWEST}


class Archive:
    """The cuts in the block store. Its methods wait for the disk; safe to use from several threads.

    Args:
        shelf: where their snapshots are.
        milestone: of every so many intervals one cut is kept for long; 0: none.
    """

    def __init__(self, shelf: Shelf, milestone: int = MILESTONE) -> None:
        self._shelf = shelf
        self._store = shelf.store
        self._milestone = milestone
        self._lock = threading.Lock()
        self._read: dict[bytes, tuple[Manifest, int]] = {}
        """Manifests that were read lately, and their bytes on the disk."""

    # --- what comes and goes by itself

    def settled(self, data: bytes) -> None:
        """The cut with this manifest is settled: its snapshot, if it is here, stays as long as the swarm needs it."""
        manifest = Manifest.decode(data)
        if self._shelf.has(manifest.weights):
            self._keep(manifest, data, CUT, milestone=self._is_milestone(manifest))

    def _is_milestone(self, manifest: Manifest) -> bool:
        if not self._milestone or manifest.previous is None:
            return False
        return manifest.index // self._milestone > manifest.previous.index // self._milestone

    def caught_up(self, data: bytes) -> None:
        """The cut with this manifest was settled some time ago: see to it that it is kept, if it is not yet."""
        cid = make_cid(DAG_CBOR, data)
        if not any(pin.root == cid for pin in self._store.pins()):
            self.settled(data)

    def keep_only(self, weights: Iterable[bytes], swarm: bytes | None = None) -> None:
        """Give up all cuts but those with these weights, the milestones that last and what the user pinned.

        Args:
            weights: what is still needed.
            swarm: whose cuts the others are. Of any other swarm, whose node ran in this directory before, the newest
                cut stays, as a milestone. None: there is but one.
        """
        wanted = frozenset(weights)
        for last in self._last_of_others(swarm) if swarm is not None else ():
            self._store.pin(last.weights, CUT, milestone=True)
        for old in self._outlived():
            if old not in wanted:
                self._shelf.drop(old)
        self._shelf.keep_only(wanted)
        here = {kept.manifest.cid for kept in self.cuts()}
        for pin in self._store.pins():
            if pin.kind == MANIFEST and pin.root not in here:
                self._store.unpin(pin.root, MANIFEST)

    def _last_of_others(self, swarm: bytes) -> list[Manifest]:
        newest: dict[bytes, Kept] = {}
        for kept in self.cuts():  # oldest first
            newest[kept.manifest.swarm] = kept
        return [kept.manifest for kept in newest.values() if kept.manifest.swarm != swarm and not kept.milestone]

    def recover(self) -> int:
        """After the list of pins was lost: keep every cut that is here whole, as if the user had pinned it.

        Then what nobody needs may be swept again. How many cuts there were.
        """
        count = 0
        for stored in self._store.blocks:
            cid = cid_of(DAG_CBOR, stored.digest)
            if stored.size == LEAF or stored.size > MAX_MANIFEST or (data := self._store.get(cid)) is None:
                continue
            try:
                manifest = Manifest.decode(data)
                if not self._shelf.has(manifest.weights):
                    continue
            except WireError:
                continue  # It is something else, or of something else.
            if self._shelf.add(manifest.weights):
                self._keep(manifest, data, USER, milestone=False)
                count += 1
        self._store.pins_are_complete()
        return count

    def _outlived(self) -> list[bytes]:
        """The weights of milestones that have become too many; each swarm has its own."""
        milestones = [kept.manifest for kept in self.cuts() if kept.milestone] if self._milestone else []
        stay = {
            swarm: lasting(cut.index // self._milestone for cut in milestones if cut.swarm == swarm)
            for swarm in {cut.swarm for cut in milestones}
        }
        return [cut.weights for cut in milestones if cut.index // self._milestone not in stay[cut.swarm]]

    # --- what the user wants

    def pin(self, data: bytes) -> Kept:
        """Keep the cut with this manifest until it is unpinned; its snapshot is here.

        Raises:
            StoreError: it is not, or the disk cannot be written.
            WireError: it is no manifest.
        """
        manifest = Manifest.decode(data)
        self._keep(manifest, data, USER, milestone=False)
        return next(kept for kept in self.cuts() if kept.manifest.cid == manifest.cid)

    def pin_snapshot(self, root: bytes) -> None:
        """Keep a snapshot of which no cut is known until it is unpinned.

        Raises:
            StoreError: it is not here, or the disk cannot be written.
        """
        self._store.pin(root, USER, label="snapshot")

    def unpin(self, text: str) -> None:
        """Take back a `pin`, by the CID of the cut or of its snapshot.

        Raises:
            StoreError: it is not pinned.
            WireError: it is no CID.
        """
        kept = self.find(text)
        if not self._store.unpin(from_text(text) if kept is None else kept.manifest.weights, USER):
            raise StoreError(f"{text} is not pinned here: `learnae snapshots` lists what is", code="not-pinned")

    # --- what is here

    def cuts(self) -> list[Kept]:
        """The cuts that are kept, oldest first."""
        pins = self._store.pins()
        milestones = {pin.root for pin in pins if pin.kind == CUT and pin.milestone}
        users = {pin.root for pin in pins if pin.kind == USER}
        whole = {pin.root for pin in pins if pin.kind in (CUT, USER)}
        found = [
            Kept(manifest, pin.since, manifest.weights in milestones, manifest.weights in users)
            for pin in pins
            if pin.kind == MANIFEST and (manifest := self._manifest(pin)) is not None and manifest.weights in whole
        ]
        return sorted(found, key=lambda kept: (kept.manifest.index, kept.since))

    def loose(self) -> list[Loose]:
        """The snapshots that the user keeps without a cut, oldest first."""
        of_cuts = {kept.manifest.weights for kept in self.cuts()}
        pins = (pin for pin in self._store.pins() if pin.kind == USER and pin.root not in of_cuts)
        return [Loose(pin.root, pin.size, pin.since) for pin in pins]

    def find(self, text: str) -> Kept | None:
        """The cut with this manifest, or with these weights.

        Raises:
            WireError: it is no CID.
        """
        cid = from_text(text)
        return next((kept for kept in self.cuts() if cid in (kept.manifest.cid, kept.manifest.weights)), None)

    def blocks(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All blocks of a cut or a snapshot, the root first, as for a CAR file.

        Raises:
            StoreError: one is missing or damaged.
        """
        try:
            yield from self._blocks(root)
        except unixfs.MissingBlock as error:
            raise StoreError(
                f"a block of {to_text(root)} is missing: {to_text(error.cid)}", code="snapshot-damaged"
            ) from error
        except WireError as error:
            raise StoreError(f"{to_text(root)} is neither a cut nor a snapshot: {error}", code="not-a-cut") from error

    def _blocks(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        if codec_of(root) == DAG_CBOR:
            data = self._store.get(root)
            if data is None:
                raise unixfs.MissingBlock(root)
            yield root, data
            root = Manifest.decode(data).weights
        yield from self._store.stream(root)

    def _manifest(self, pin: Pin) -> Manifest | None:
        known = self._read.get(pin.root)
        if known is not None and self._store.size(pin.root) == known[1]:
            return known[0]
        data = self._store.get(pin.root)
        try:
            manifest = Manifest.decode(data) if data is not None else None
        except WireError as error:
            log.warning("a manifest cannot be read", cid=to_text(pin.root), why=error)
            return None
        with self._lock:
            self._read.pop(pin.root, None)
            if manifest is not None and data is not None:
                self._read[pin.root] = manifest, len(data)
            while sum(size for _, size in self._read.values()) > _MOST_READ:
                del self._read[next(iter(self._read))]
        return manifest

    def _keep(self, manifest: Manifest, data: bytes, kind: str, *, milestone: bool) -> None:
        assert names(manifest.cid, data)
        with self._store.lease() as lease:
            lease.put(DAG_CBOR, data)
            self._store.pin(manifest.weights, kind, label=f"cut {manifest.index}", milestone=milestone)
            self._store.pin(manifest.cid, MANIFEST, label=f"cut {manifest.index}")
