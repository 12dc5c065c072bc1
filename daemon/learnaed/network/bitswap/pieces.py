"""`Pieces`: a queue of bytes, kept as they came and copied once, when they are taken; used by `inlet` and `link`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

SCRAP: Final = 4 * 1024
"""Pieces of fewer bytes are copied into one another: an object for each would weigh more than they do."""


class Pieces:
    """It can stand in for the bytearray in which Yamux keeps what comes on a stream. There every frame moves what is
    there already, once more bytes than it was made for, and what is taken is copied twice."""

    def __init__(self, pieces: Iterable[bytes] = ()) -> None:
        self._pieces: deque[bytes | bytearray] = deque()
        self._taken = 0
        """Bytes of the first piece that are gone."""
        self._size = 0
        for piece in pieces:
            self.extend(piece)

    def __len__(self) -> int:
        return self._size

    def extend(self, data: bytes) -> None:
        """Put bytes at the end."""
        self._size += len(data)
        if len(data) >= SCRAP:
            self._pieces.append(data)
        elif self._pieces and isinstance(last := self._pieces[-1], bytearray) and len(last) < SCRAP:
            last += data
        elif data:
            self._pieces.append(bytearray(data))

    def take(self, size: int) -> bytes:
        """The first bytes, or all if they are fewer."""
        parts: list[memoryview] = []
        left = size = min(size, self._size)
        while left:
            part = memoryview(self._pieces[0])[self._taken : self._taken + left]
            parts.append(part)
            left -= len(part)
            self._taken += len(part)
            if self._taken == len(self._pieces[0]):
                self._pieces.popleft()
                self._taken = 0
        self._size -= size
        return b"".join(parts)

    # --- as a bytearray, for libp2p

    def __bytes__(self) -> bytes:
        return self[:]

    def __getitem__(self, first: slice) -> bytes:
        """The first bytes, which stay."""
        left = self._size if first.stop is None else min(first.stop, self._size)
        parts: list[memoryview] = []
        start = self._taken
        for piece in self._pieces:
            if not left:
                break
            part = memoryview(piece)[start : start + left]
            parts.append(part)
            left -= len(part)
            start = 0
        return b"".join(parts)

    def __delitem__(self, first: slice) -> None:
        self.take(first.stop)

    def clear(self) -> None:
        """Drop all."""
        self._pieces.clear()
        self._taken = self._size = 0
