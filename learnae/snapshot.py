"""Snapshot files: the whole replica as a safetensors file in leaves, each named by its CID; used by trainer and daemon.

The layout of the file and of its links block is specified in ``docs/spec/snapshot.md``. Everything here streams: no
more than one leaf is held. What is in the file as numbers is the business of `learnae.replica`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from learnae import cbor, schema
from learnae.cid import raw_cid
from learnae.errors import LayoutError, StoreError, WireError
from learnae.layout import Layout

LEAF: Final = 256 * 1024
"""Bytes of each leaf but the last."""

MAX_LINKS: Final = 16 * 1024 * 1024
"""Most bytes of a links block: enough for snapshots of 100 GB."""

FORMAT: Final = "learnae-replica-1"
_MAX_LEAVES: Final = MAX_LINKS // 36
_MAX_HEADER: Final = 100_000_000  # what the safetensors library accepts
_NAME: Final = slice(4, 20)  # of a CID: the first half of its hash
_DATA, _LINKS = ".safetensors", ".links"


class Links(NamedTuple):
    """What a snapshot file consists of: its size in bytes and the CIDs of its leaves, in order."""

    size: int
    leaves: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The links block: canonical CBOR ``[size, [leaf, ...]]``."""
        return cbor.encode([self.size, list(self.leaves)])

    @property
    def cid(self) -> bytes:
        """Names the snapshot: the CID of its links block."""
        return raw_cid(self.encode())


def parse_links(data: bytes) -> Links:
    """The links in a links block.

    Raises:
        WireError: it breaks the format or a bound, or the number of leaves does not fit the size.
    """
    size, leaves = schema.record(
        cbor.decode(data, MAX_LINKS), schema.integer(1), schema.sequence(schema.cid, _MAX_LEAVES)
    )
    if len(leaves) != -(-size // LEAF):
        raise WireError(f"a snapshot of {size} bytes does not have {len(leaves)} leaves")
    return Links(size, leaves)


def snapshot_path(directory: Path, cid: bytes) -> Path:
    """Where the file of this snapshot lies."""
    return directory / f"{cid[_NAME].hex()}{_DATA}"


def links_path(directory: Path, cid: bytes) -> Path:
    """Where its links block lies; it is written last, so that a snapshot is complete if this file exists."""
    return directory / f"{cid[_NAME].hex()}{_LINKS}"


def header(layout: Layout, exponents: Sequence[int]) -> bytes:
    """How the file of a replica with this layout and these units begins, up to the first weight.

    Raises:
        LayoutError: a tensor has the one name that safetensors keeps for itself.
    """
    about = {"format": FORMAT, "exponents": ",".join(map(str, exponents))}
    entries: dict[str, object] = {
        tensor.name: {"dtype": "I32", "shape": tensor.shape, "data_offsets": [4 * offset, 4 * (offset + tensor.size)]}
        for offset, tensor in zip(layout.offsets, layout.tensors, strict=True)
    }
    if "__metadata__" in entries:
        raise LayoutError("a parameter is called '__metadata__', which safetensors files cannot hold: rename it")
    text = json.dumps({"__metadata__": about, **entries}, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_header(leaves: Iterator[bytes], layout: Layout) -> tuple[tuple[int, ...], bytes]:
    """The exponents that the file in these leaves names, and what its leaves so far hold beyond the header.

    Raises:
        StoreError: it is not the header of a snapshot of this layout, to the byte.
    """
    found = next(leaves, b"")
    length = 8 + int.from_bytes(found[:8], "little")
    if length > _MAX_HEADER:
        raise StoreError("this is not the snapshot of a replica: its header is too long")
    while len(found) < length and (leaf := next(leaves, b"")):
        found += leaf
    try:
        written = json.loads(found[8:length])["__metadata__"]["exponents"]
        exponents = tuple(int(number) for number in written.split(","))
        if len(exponents) != len(layout.tensors) or header(layout, exponents) != found[:length]:
            raise StoreError("this is the snapshot of another model, or in another format")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"this is not the snapshot of a replica: {error!r}") from error
    return exponents, found[length:]


def cut_leaves(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The leaves of a file that is given in pieces of any length."""
    rest = b""
    for piece in pieces:
        view = memoryview(piece).cast("B")
        taken = 0
        if rest:
            taken = min(LEAF - len(rest), len(view))
            rest += view[:taken]
            if len(rest) == LEAF:
                yield rest
                rest = b""
        while len(view) - taken >= LEAF:
            yield bytes(view[taken : taken + LEAF])
            taken += LEAF
        rest += view[taken:]
    if rest:
        yield rest


def links_of(pieces: Iterable[bytes | memoryview]) -> Links:
    """The links of a file, without writing it."""
    size, leaves = 0, []
    for leaf in cut_leaves(pieces):
        size += len(leaf)
        leaves.append(raw_cid(leaf))
    return Links(size, tuple(leaves))


def write(directory: Path, pieces: Iterable[bytes | memoryview]) -> Links:
    """Write a snapshot so that a crash leaves all of it or nothing that counts.

    Raises:
        StoreError: the disk is full or the directory is not writable.
    """
    draft = directory / "draft.new"
    size, leaves = 0, []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            for leaf in cut_leaves(pieces):
                file.write(leaf)
                size += len(leaf)
                leaves.append(raw_cid(leaf))
            file.flush()
            os.fsync(file.fileno())
        links = Links(size, tuple(leaves))
        draft.replace(snapshot_path(directory, links.cid))
        with draft.open("wb") as file:
            file.write(links.encode())
            file.flush()
            os.fsync(file.fileno())
        _sync(directory)  # The data have their name before the links have theirs.
        draft.replace(links_path(directory, links.cid))
        _sync(directory)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise StoreError(
            f"a snapshot cannot be written to {directory}: {error}. Make room on the disk; the next one is tried anyhow"
        ) from error
    return links


def exists(directory: Path, cid: bytes) -> bool:
    """Whether the whole snapshot is there."""
    return links_path(directory, cid).exists() and snapshot_path(directory, cid).exists()


def read(path: Path) -> Iterator[bytes]:
    """The leaves of the snapshot file at ``path``, each verified.

    Raises:
        StoreError: file or links are missing or damaged, or do not belong to each other.
    """
    try:
        links = parse_links(path.with_suffix(_LINKS).read_bytes())
        if snapshot_path(path.parent, links.cid) != path:
            raise StoreError(f"the links beside {path} belong to another snapshot: fetch it again")
        with path.open("rb") as file:
            for cid in links.leaves:
                leaf = file.read(LEAF)
                if raw_cid(leaf) != cid:
                    raise StoreError(f"the snapshot {path} is damaged: delete it, and it is fetched again")
                yield leaf
            if file.read(1):
                raise StoreError(f"the snapshot {path} is longer than it should be: delete it, and it is fetched again")
    except (OSError, WireError) as error:
        raise StoreError(f"the snapshot {path} cannot be read: {error}. It has to be fetched again") from error


def _sync(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
