"""The streams and queues of one peer that Bitswap is spoken with; used by `engine`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import trio

from learnae.errors import WireError
from learnaed.network.bitswap.inlet import Inlet
from learnaed.network.bitswap.ledger import Ledger
from learnaed.network.bitswap.pieces import Pieces
from learnaed.network.bitswap.schedule import Orders
from learnaed.network.bitswap.wire import MAX_MESSAGE, Entry, Message, lone_block, parse, wantlist
from learnaed.network.framing import MIN_RATE
from learnaed.network.host import socket_of
from learnaed.network.patches import FRAME
from learnaed.network.transport import SMALL

MAX_UNASKED: Final = 256 * 1024
"""Largest message from a peer that was asked for nothing: 4000 wants."""
MAX_ENTRIES: Final = 512
"""Most of our own wants in one message."""
MAX_READ: Final = 4
"""Messages of a peer that are read at once; others wait in the buffer of their connection, which is bounded."""
MAX_REMEMBERED: Final = 8192
"""Blocks that a peer was asked for and may still send, after a cancellation for instance."""
STALL: Final = 10.0
"""Seconds in which a peer must take, or give, some more of a message that is under way."""
_HEAD: Final = 64
"""More than stands before the data of a message with one block."""
_TOP_PRIORITY: Final = 2**31 - 1


class Link:
    """What is known of one connected peer. All but `read` and `write` is without input or output."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.ledger = Ledger()
        self.asked: dict[bytes, int] = {}
        """Blocks that it may send, and how often each: as often as it was asked."""
        self.stream: Any = None
        self.protocol = ""
        self._scopes: set[trio.CancelScope] = set()
        self._closed = False
        self.writing = False
        self.failures = 0
        self.inbound = 0
        self.room = trio.Semaphore(MAX_READ)
        """For those of its messages that are in memory."""
        self.unwanted_bytes = 0
        self._own: dict[bytes, Entry] = {}
        self._full = False
        self._priority = _TOP_PRIORITY
        self._reading: set[Inlet] = set()
        self._deadlines: dict[object, tuple[float, Callable[[], None]]] = {}

    @contextmanager
    def task(self) -> Iterator[None]:
        """What runs within ends, cancelled, with the link."""
        with trio.CancelScope() as scope:
            if self._closed:
                scope.cancel()
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)

    def close(self) -> None:
        """The peer is gone."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()

    # --- what we want of it

    def order(self, orders: Orders) -> None:
        """Queue what a session has decided."""
        for cid in orders.cancels:
            self._own[cid[4:]] = Entry(cid, cancel=True)
        for cid in orders.wants:
            self._want(cid)

    def renew(self, cids: list[bytes]) -> None:
        """On a new stream all wants are sent anew: some may have been lost with the one before."""
        self._own.clear()
        self._full = True
        for cid in cids:
            self._want(cid)

    def _want(self, cid: bytes) -> None:
        self._own[cid[4:]] = Entry(cid, self._priority, dont_have=True)
        self._priority = self._priority - 1 or _TOP_PRIORITY
        self.asked[cid[4:]] = self.asked.get(cid[4:], 0) + 1
        if len(self.asked) > MAX_REMEMBERED:
            del self.asked[next(iter(self.asked))]

    def may_send(self, digest: bytes | None) -> bool:
        """Whether it was asked for this block, which it has now sent."""
        times = self.asked.pop(digest, 0) if digest is not None else 0
        if digest is not None and times > 1:
            self.asked[digest] = times - 1
        return times > 0

    def own_wants(self) -> bytes:
        """The next part of our wantlist as part of a message; empty if there is nothing to say."""
        if not self._own and not self._full:
            return b""
        chosen = [self._own.pop(digest) for digest in list(self._own)[:MAX_ENTRIES]]
        full, self._full = self._full, False
        return wantlist(chosen, full=full)

    @property
    def has_work(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._own) or self._full or self.ledger.has_due

    # --- streams

    async def head(self, inlet: Inlet) -> tuple[int, int] | None:
        """Wait for the next message of a stream: its size and where it begins. None at the end, even if it cuts one
        off: a peer that is killed ends its streams so.

        Raises:
            WireError: it does not begin with a size.
            BaseLibp2pError: the stream or the connection broke.
        """
        while (head := _length(inlet.peek(_HEAD))) is None:
            await inlet.wait(inlet.waiting + 1)
            if inlet.over:
                head = _length(inlet.peek(_HEAD))
                break
        if head is None:
            await inlet.take(_HEAD)  # raises what there is to raise
        return head

    async def read(
        self, inlet: Inlet, head: tuple[int, int], progress: Callable[[int], None], abandon: Callable[[], None]
    ) -> Message | None:
        """The message of this head, of at most `MAX_MESSAGE` bytes, or None if the stream ends within it.

        `abandon` is called from elsewhere if the bytes of a message stop coming.

        Raises:
            WireError: the message is too large, or none.
            BaseLibp2pError: the stream or the connection broke.
        """
        size, start = head
        if size > (MAX_MESSAGE if self.asked else MAX_UNASKED):
            raise WireError(f"a Bitswap message of {size} bytes")
        if size <= SMALL:
            await trio.lowlevel.checkpoint()  # a flood of small messages shall leave others their time
        lone = lone_block(memoryview(inlet.peek(_HEAD))[start:], size)
        begin = start + (lone[1] if lone else 0)
        progress(len(await inlet.take(begin)))
        self._reading.add(inlet)
        try:
            body = await self._body(inlet, start + size - begin, progress, abandon)
        finally:
            self._reading.discard(inlet)
            self._deadlines.pop(abandon, None)
        if body is None:
            return None
        return Message(blocks=[(lone[0], body)]) if lone else parse(body)

    async def _body(
        self, inlet: Inlet, size: int, progress: Callable[[int], None], abandon: Callable[[], None]
    ) -> bytes | None:
        chunks: list[bytes] = []
        left, began = size, trio.current_time()
        while left:
            self._deadlines.pop(abandon, None)
            waiting = trio.current_time()
            limited = await inlet.settle()
            now = trio.current_time()
            began += now - waiting
            self._deadlines[abandon] = min(now + STALL, began + STALL + size / MIN_RATE), abandon
            await inlet.wait(1 if limited else left)
            chunk = await inlet.take(left)
            if not chunk:
                return None
            progress(len(chunk))
            chunks.append(chunk)
            left -= len(chunk)
        return b"".join(chunks)  # of one alone it makes no copy

    async def write(self, stream: Any, parts: Sequence[bytes]) -> None:
        """Write framed messages. A peer that takes nothing for `STALL` seconds is disconnected."""
        socket = socket_of(stream.muxed_conn)
        pieces = Pieces(parts)
        bulk = len(pieces) > SMALL
        try:
            while pieces:
                self._deadlines.pop(self.write, None)
                size = await socket.turn(min(FRAME, len(pieces))) if bulk else len(pieces)
                self._deadlines[self.write] = trio.current_time() + STALL, socket.abort
                await stream.write(pieces.take(size))
        finally:
            self._deadlines.pop(self.write, None)

    def expire(self, now: float) -> None:
        """Take what has come of messages, and act on those that do not move; called about once a second."""
        for inlet in self._reading:
            inlet.poke()
        for key, (latest, act) in list(self._deadlines.items()):
            if now >= latest:
                del self._deadlines[key]
                act()


def _length(data: bytes) -> tuple[int, int] | None:
    """The number that a message begins with and where the message itself begins; None if more bytes are needed."""
    value = 0
    for index, byte in enumerate(data[:5]):
        value |= (byte & 127) << (7 * index)
        if byte < 128:
            return value, index + 1
    if len(data) >= 5:
        raise WireError("a Bitswap message whose length is not a number")
    return None
