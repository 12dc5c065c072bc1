"""Protection of blocks that are on their way and belong to no pin yet; `BlockStore` gives it to whoever brings them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType


class Lease:
    """What was put under it, and what its root leads to, stays until it is released. Use it in a `with` statement.

    Safe to use from several threads; its methods wait for the disk.
    """

    def __init__(
        self,
        root: bytes | None,
        put_all: Callable[[Lease, Iterable[tuple[int, bytes]]], tuple[bytes, ...]],
        expect: Callable[[Lease, int], None],
        release: Callable[[Lease, bool], None],
    ) -> None:
        self.root = root
        self.digests: set[bytes] = set()
        """What it protects, here or still to come."""
        self.reserved = 0
        """Bytes of room that are set aside for what is to come."""
        self.arriving = 0
        """Bytes that are being written just now."""
        self._put_all = put_all
        self._expect = expect
        self._release = release

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def expect(self, size: int) -> None:
        """Set room aside: `size` bytes of blocks in all, of which some may be here.

        Raises:
            StoreError: there is not so much room, even without all that is not pinned.
        """
        self._expect(self, size)

    def put(self, codec: int, block: bytes) -> bytes:
        """Keep a block; durable when this returns. Its CID.

        Raises:
            WireError: a node that `learnae.unixfs` would not make.
            StoreError: there is no room, or the disk cannot be written.
        """
        return self._put_all(self, [(codec, block)])[0]

    def put_all(self, blocks: Iterable[tuple[int, bytes]]) -> tuple[bytes, ...]:
        """Keep many blocks, which is much faster: all are durable when this returns. Their CIDs.

        If it fails, or `blocks` does, none is there that was not before. It holds 16 of them at a time.
        """
        return self._put_all(self, blocks)

    def release(self, *, keep: bool = False) -> None:
        """End it. Once is enough, more is harmless.

        Args:
            keep: the download will go on later: what came of it stays for a day, as after a crash, if room allows.
        """
        self._release(self, keep)
