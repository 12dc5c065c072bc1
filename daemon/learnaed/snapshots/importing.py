"""`learnae import`: takes a cut or a snapshot from a file into the block store; used by `Catalogue`.

Blocks get their names when all of the file was read and found whole. A snapshot's own safetensors file is cut into
leaves again, which gives the CID that it had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from os import SEEK_END
from pathlib import Path
from typing import IO, Any

from learnae import car, snapshot, unixfs
from learnae.cid import DAG_CBOR, DAG_PB, RAW, codec_of, to_text
from learnae.errors import LearnaeError, StoreError, WireError
from learnae.manifest import Manifest
from learnae.unixfs import LEAF, Child
from learnaed.blockstore import BlockStore, Lease
from learnaed.snapshots.archive import Archive
from learnaed.snapshots.shelf import LARGEST_HEADER, check_fit

Check = Callable[[], object]
"""Called for each block; raises to end the work early."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file held; it is pinned."""

    cid: bytes
    """Of the cut, or of the snapshot where the file has no cut."""
    weights: bytes
    size: int
    """Bytes of the snapshot."""
    index: int | None
    """Of the cut."""

    def row(self) -> dict[str, Any]:
        """For the status endpoint."""
        return asdict(self) | {"cid": to_text(self.cid), "weights": to_text(self.weights)}


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How far an import is."""

    file: str
    done: int
    """Bytes of the file that were read and checked."""
    size: int


class Importer:
    """Reads files into the store.

    Args:
        store: takes the blocks.
        archive: pins what came.
    """

    def __init__(self, store: BlockStore, archive: Archive) -> None:
        self._store = store
        self._archive = archive
        self._progress: ImportProgress | None = None

    @property
    def progress(self) -> ImportProgress | None:
        """Of the file that is being taken in, if one is."""
        return self._progress

    def file(self, path: Path, check: Check = lambda: None) -> Imported:
        """Take this file in, and pin what it holds; waits for the disk. Nothing of a file that is no good stays.

        Args:
            path: a CAR file of a cut or a snapshot, or a snapshot as safetensors.
            check: called for each block.

        Raises:
            WireError: the file is neither, or damaged, or cut off.
            StoreError: it cannot be read, there is no room for it, or the disk cannot be written.
        """
        try:
            if not path.is_absolute() or not path.is_file():
                raise StoreError(
                    f"{path} is no file that the daemon can read: give the whole path of one", code="file-unreadable"
                )
            size = path.stat().st_size
            # Room is made for each block when it comes: what is here already needs none.
            with path.open("rb") as file, self._store.lease() as lease:

                def noted() -> None:
                    self._progress = ImportProgress(path.name, file.tell(), size)
                    check()

                try:
                    return self._take(file, lease, noted)
                except LearnaeError:
                    lease.release()
                    self._store.collect()
                    raise
                finally:
                    self._progress = None
        except WireError as error:
            raise WireError(f"{path} cannot be imported: {error}", code="import-refused") from error
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}", code="file-unreadable") from error

    def _take(self, file: IO[bytes], lease: Lease, check: Check) -> Imported:
        beginning = file.read(9)
        file.seek(0)
        if beginning[8:] == b"{":
            cut, root = None, self._take_safetensors(file, lease, check)
        else:
            wanted = _Wanted(self._store)
            lease.put_all(wanted.blocks(file, check))
            cut, root = wanted.cut, wanted.root
        size = unixfs.size_of(root, self._store.get(root) or b"")
        self._look_into(lambda: self._store.read(root), size)
        if cut is None:
            self._archive.pin_snapshot(root)
            return Imported(root, root, size, None)
        manifest = Manifest.decode(cut)
        if manifest.size != size:
            raise WireError(f"the cut tells of a snapshot of {manifest.size} bytes, and this one has {size}")
        self._archive.pin(cut)
        return Imported(manifest.cid, root, size, manifest.index)

    def _take_safetensors(self, file: IO[bytes], lease: Lease, check: Check) -> bytes:
        """The root of the snapshot in this file."""
        sizes: list[int] = []

        def leaves() -> Iterator[bytes]:
            file.seek(0)
            while leaf := file.read(LEAF):
                yield leaf

        def blocks() -> Iterator[tuple[int, bytes]]:
            for leaf in leaves():
                check()
                sizes.append(len(leaf))
                yield RAW, leaf

        self._look_into(leaves, file.seek(0, SEEK_END))
        cids = lease.put_all(blocks())
        return unixfs.assemble(zip(cids, sizes, strict=True), lease.put).cid

    def _look_into(self, leaves: Callable[[], Iterator[bytes]], size: int) -> None:
        try:
            check_fit(snapshot.layout_of(leaves(), LARGEST_HEADER), leaves(), size)
        except StoreError as error:
            raise WireError(f"it holds no snapshot of a swarm: {error}") from error
        except unixfs.MissingBlock as error:
            raise StoreError(
                f"the block {to_text(error.cid)} was damaged on the disk: import it again", code="snapshot-damaged"
            ) from error


class _Wanted:
    """The blocks of a CAR file that belong to its root; parents come before what they link to."""

    def __init__(self, store: BlockStore) -> None:
        self.cut: bytes | None = None
        """The manifest, if the root is one."""
        self.root = b""
        """Of the snapshot."""
        self._store = store
        self._open: dict[bytes, Child | None] = {}

    def blocks(self, file: car.Readable, check: Check) -> Iterator[tuple[int, bytes]]:
        """Those blocks with their codecs.

        Raises:
            WireError: the file is damaged, or does not hold all of them.
        """
        roots, blocks = car.read(file)
        if len(roots) != 1:
            raise WireError(f"it has {len(roots)} roots: one cut or snapshot is needed")
        self.root = roots[0]
        self._open = {self.root: None}
        done: set[bytes] = set()
        for cid, block in blocks:
            check()
            if cid in self._open:
                self._unfold(cid, block, done)
                done.add(cid)
                yield codec_of(cid), block
        missing = [cid for cid in self._open if self._store.missing(cid)]
        if missing:
            raise WireError(
                f"{len(missing)} blocks are missing, the first of them {to_text(missing[0])}: it is cut off, or a "
                "block stands before what links to it (`learnae export --car` and `ipfs dag export` put it behind)"
            )

    def _unfold(self, cid: bytes, block: bytes, done: set[bytes]) -> None:
        promised = self._open.pop(cid)
        if codec_of(cid) == DAG_CBOR:
            if self.cut is not None:
                raise WireError("a cut in the place of a snapshot")
            self.cut, self.root = block, Manifest.decode(block).weights
            self._open[self.root] = None
            return
        if codec_of(cid) != DAG_PB:
            if promised is not None and len(block) != promised.size:
                raise WireError(f"a leaf of {len(block)} bytes, where {promised.size} were promised")
            return
        children = unixfs.parse_node(block) if promised is None else unixfs.children_of(promised, block)
        self._open |= {child.cid: child for child in children if child.cid not in done}
        if len(self._open) > unixfs.MAX_BLOCKS:
            raise WireError(f"a snapshot of more than {unixfs.MAX_BLOCKS} blocks")
