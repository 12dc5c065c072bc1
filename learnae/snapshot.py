"""Snapshots: the whole replica as a safetensors file in a tree of blocks, under its root; for trainer and daemon.

The file is specified in ``docs/spec/snapshot.md``, the tree in `learnae.unixfs`. Everything here streams: no more
than a few leaves are held. What is in the file as numbers is the business of `learnae.replica`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from learnae import unixfs
from learnae.blocks import Blocks
from learnae.cid import to_text
from learnae.errors import LayoutError, StoreError, WireError
from learnae.layout import Layout, TensorSpec
from learnae.unixfs import LEAF, Child, MissingBlock

FORMAT: Final = "learnae-replica-1"
_MAX_HEADER: Final = 100_000_000  # what the safetensors library accepts


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
        raise LayoutError(
            "a parameter is called '__metadata__', which safetensors files cannot hold: rename it",
            code="model-unshareable",
        )
    text = json.dumps({"__metadata__": about, **entries}, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def longest_header(layout: Layout) -> int:
    """Most bytes that `header` has with any exponents that a replica can have."""
    return len(header(layout, (-120,) * len(layout.tensors)))


def read_header(leaves: Iterator[bytes], layout: Layout) -> tuple[tuple[int, ...], bytes]:
    """The exponents that the file in these leaves names, and what its leaves so far hold beyond the header.

    Raises:
        StoreError: it is not the header of a snapshot of this layout, to the byte.
    """
    # Before a stranger's JSON is read: it could be long enough to keep everything waiting.
    found, length = _beginning(leaves, min(_MAX_HEADER, longest_header(layout)))
    try:
        written = json.loads(found[8:length])["__metadata__"]["exponents"]
        exponents = tuple(int(number) for number in written.split(","))
        if len(exponents) != len(layout.tensors) or header(layout, exponents) != found[:length]:
            raise StoreError("this is the snapshot of another model, or in another format", code="snapshot-foreign")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"this is not the snapshot of a replica: {error!r}", code="snapshot-foreign") from error
    return exponents, found[length:]


def layout_of(leaves: Iterator[bytes], limit: int = _MAX_HEADER) -> Layout:
    """The layout of the replica in this file, for who does not know the model: in a snapshot all types are "float32".

    Raises:
        StoreError: it is not the header of a snapshot, or one of more than `limit` bytes.
    """
    found, length = _beginning(leaves, limit)
    try:
        entries = json.loads(found[8:length])
        written = entries.pop("__metadata__")["exponents"]
        exponents = tuple(int(number) for number in written.split(","))
        ordered = sorted(entries.items(), key=lambda entry: entry[1]["data_offsets"])
        layout = Layout(tuple(TensorSpec(name, tuple(entry["shape"]), "float32") for name, entry in ordered))
        if header(layout, exponents) != found[:length]:
            raise StoreError(
                "this is not the snapshot of a swarm's weights: its header is in another format",
                code="snapshot-foreign",
            )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, LayoutError) as error:
        raise StoreError(
            f"this is not the snapshot of a swarm's weights: {error!r}", code="snapshot-foreign"
        ) from error
    return layout


def _beginning(leaves: Iterator[bytes], limit: int) -> tuple[bytes, int]:
    """The leaves up to the one in which the header ends, and where it ends."""
    found = next(leaves, b"")
    length = 8 + int.from_bytes(found[:8], "little")
    if length > limit:
        raise StoreError("this is not the snapshot of a replica: its header is too long", code="snapshot-foreign")
    parts, size = [found], len(found)
    while size < length and (leaf := next(leaves, b"")):
        parts.append(leaf)
        size += len(leaf)
    return b"".join(parts), length


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


def root_of(pieces: Iterable[bytes | memoryview]) -> Child:
    """The root of a file that is given in pieces, without writing it."""
    return unixfs.build(cut_leaves(pieces))


def write(blocks: Blocks, pieces: Iterable[bytes | memoryview]) -> Child:
    """Write a snapshot, so that a crash leaves all of it or nothing that counts; its root.

    Raises:
        StoreError: the disk is full or the directory is not writable.
    """
    with blocks.batch() as batch:
        return unixfs.build(cut_leaves(pieces), batch.put)


def read(blocks: Blocks, root: bytes) -> Iterator[bytes]:
    """The leaves of the snapshot with this root, each verified.

    Raises:
        StoreError: a block is missing or damaged, or it is no file.
    """
    try:
        yield from unixfs.read(root, blocks.get)
    except MissingBlock as error:
        raise StoreError(
            f"the snapshot {to_text(root)} is not whole: {to_text(error.cid)} is missing or damaged. It has to be "
            "fetched again",
            code="snapshot-damaged",
        ) from error
    except WireError as error:
        raise StoreError(f"the snapshot {to_text(root)} is no file: {error}", code="snapshot-damaged") from error
