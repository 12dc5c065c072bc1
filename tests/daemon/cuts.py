"""Cuts with snapshots of a small model, in a block store of their own; for the tests of what is done with them."""

from __future__ import annotations

import random
from pathlib import Path

from learnae import snapshot
from learnae.layout import Layout, TensorSpec
from learnae.manifest import Interval, Manifest
from learnae.vector import VersionVector
from learnae.wire import CutId
from learnaed.blockstore import BlockStore
from learnaed.snapshots import Archive, Shelf

LAYOUT = Layout((TensorSpec("b", (3,), "float32"), TensorSpec("w", (300, 500), "float32")))
SWARM = bytes(range(32))
AUTHOR = bytes(32)


def content(seed: int) -> bytes:
    """The file of a snapshot, of three leaves."""
    return snapshot.header(LAYOUT, (-24, -20)) + random.Random(seed).randbytes(4 * LAYOUT.size)


def root_of(seed: int) -> bytes:
    return snapshot.root_of([content(seed)]).cid


def manifest(index: int, previous: int | None = None) -> Manifest:
    """The cut of interval `index`, whose snapshot is made of that seed."""
    vector = VersionVector()
    vector.add(AUTHOR, index + 1)
    return Manifest(
        swarm=SWARM,
        index=index,
        lineage=() if previous is None else (CutId(previous, root_of(previous)),),
        intervals=(Interval(index, vector, 1.0, 5, 0.5),),
        total=bytes(32),
        updates=index + 1,
        samples=5,
        weights=root_of(index),
        size=len(content(index)),
    )


class Place:
    """A disk with a block store, and what stands on it."""

    def __init__(self, directory: Path, cap: int = 2**30) -> None:
        self.store = BlockStore(directory, cap=cap, margin=0)
        self.shelf = Shelf(self.store)
        self.shelf.begin_writing()
        self.shelf.end_writing()
        self.store.pins_are_complete()
        self.archive = Archive(self.shelf, milestone=4)

    def write(self, seed: int) -> bytes:
        """A trainer writes a snapshot."""
        self.shelf.begin_writing()
        root = snapshot.write(self.store.blocks, [content(seed)]).cid
        assert self.shelf.add(root)
        self.shelf.end_writing()
        return root

    def settle(self, index: int, previous: int | None = None) -> Manifest:
        """A trainer writes the snapshot of a cut, which is then settled."""
        self.write(index)
        made = manifest(index, previous)
        self.archive.settled(made.encode())
        return made

    def damage(self, cid: bytes) -> None:
        name = cid[4:].hex()
        (self.store.blocks.directory / name[:2] / name).write_bytes(b"damage")

    @property
    def blocks(self) -> int:
        """How many there are."""
        return sum(1 for _ in self.store.blocks)

    @property
    def indices(self) -> list[int]:
        """Of the cuts that are kept."""
        return [kept.manifest.index for kept in self.archive.cuts()]
