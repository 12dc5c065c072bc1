"""`Session`: fetches many blocks from several peers at once, for a downloader; made by `Bitswap.session`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Protocol

import trio

from learnae.errors import NetworkError, WireError
from learnaed.network.bitswap.schedule import Drop, Limits, Orders, Schedule
from learnaed.network.bitswap.statistics import SessionStatistics

OnDrop = Callable[[str, Drop], None]


class _Engine(Protocol):
    """The part of `Bitswap` that a session needs."""

    def is_connected(self, peer: str) -> bool: ...

    def send(self, session: Session, orders: dict[str, Orders]) -> None: ...

    def enter(self, session: Session) -> None: ...

    def leave(self, session: Session) -> None: ...


class Session:
    """Blocks on their way here. Iterate over it; it ends when everything that was wanted has been taken.

    ::

        with network.session(peers) as session:
            async for cid, data in session.fetch([root]):
                session.want(links_in(data))

    Every block that it yields is verified and comes once, in the order of arrival. A peer that goes away loses its
    wants to the others and takes part again when it is back. Leaving the `with` block cancels what is still wanted.
    """

    def __init__(self, engine: _Engine, peers: Iterable[str], limits: Limits, on_drop: OnDrop) -> None:
        self._engine = engine
        self._limits = limits
        self._on_drop = on_drop
        self._told: set[str] = set()
        self._ready: deque[tuple[bytes, bytes]] = deque()
        self._wake = trio.Event()
        self._closed = False
        self._promised: dict[bytes, int] = {}
        self._refused = ""
        self.schedule = Schedule(limits, trio.current_time())
        self._first = tuple(peers)

    def __enter__(self) -> Session:
        self._engine.enter(self)
        for peer in self._first:
            self.add(peer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self.schedule.close()
        self.settle()
        self._engine.leave(self)
        self._ready.clear()

    def fetch(self, cids: Iterable[bytes]) -> Session:
        """`want`, and the session to iterate over."""
        self.want(cids)
        return self

    def want(self, cids: Iterable[bytes], sizes: Mapping[bytes, int] | None = None) -> None:
        """Ask for more blocks, in this order (36-byte CIDv1, SHA-256). One that came already is fetched anew.

        Args:
            cids: the blocks.
            sizes: bytes that some of them have, as whatever links to them promises. Without it the bound on memory
                (`Limits.held`) takes them for as large as blocks mostly are.

        Raises:
            ValueError: a CID of another kind.
        """
        if sizes:
            self._promised.update(sizes)
        self.schedule.want(cids, trio.current_time(), sizes)
        self.settle()

    def add(self, peer: str) -> None:
        """Take a peer in, connected or not; one that was dropped stays out."""
        self.schedule.add(peer, self._engine.is_connected(peer), trio.current_time())
        self.settle()

    def remove(self, peer: str) -> None:
        """Ask a peer no more."""
        self.schedule.remove(peer, trio.current_time())
        self.settle()

    @property
    def ready(self) -> int:
        """Blocks that have come and wait to be taken."""
        return len(self._ready)

    def __aiter__(self) -> Session:
        return self

    async def __anext__(self) -> tuple[bytes, bytes]:
        """The next block, `(cid, data)`.

        Raises:
            NetworkError: no block came for `Limits.patience` seconds, or no peer is left that might have one.
            WireError: a block is larger than was promised; it was not kept. Whoever made the link has lied.
        """
        began = trio.current_time()
        if self._ready:
            await trio.lowlevel.checkpoint()
        while not self._ready:
            if self._refused:
                raise WireError(self._refused)
            if self._closed or not self.schedule.wanted:
                raise StopAsyncIteration
            now = trio.current_time()
            lately = max(began, self.schedule.last_block)
            if now - lately >= self._limits.patience or self.schedule.hopeless:
                raise NetworkError(self._complaint(now))
            self._wake = trio.Event()
            await self._wake.wait()
        cid, data = self._ready.popleft()
        self.schedule.taken(len(data), trio.current_time())
        self.settle()
        return cid, data

    def tick(self, now: float) -> None:
        """Called a few times a second by the engine, while there is a host."""
        self.schedule.tick(now)
        self.settle()

    def deliver(self, cid: bytes, data: bytes) -> None:
        """The engine hands over a block that `schedule` wanted."""
        promised = self._promised.pop(cid, len(data))
        if len(data) > promised:
            self._refused = f"a block of {len(data)} bytes, where its link promises {promised}"
            self.schedule.taken(len(data), trio.current_time())
            return
        self._ready.append((cid, data))

    def settle(self) -> None:
        """Send what the schedule has decided, tell of dropped peers, wake the caller."""
        orders = self.schedule.orders()
        if orders:
            self._engine.send(self, orders)
        for peer in self.schedule.dropped.keys() - self._told:
            self._told.add(peer)
            self._on_drop(peer, self.schedule.dropped[peer])
        self._wake.set()

    def statistics(self) -> SessionStatistics:
        """Figures for progress bars and logs."""
        schedule = self.schedule
        return SessionStatistics(
            blocks=schedule.blocks,
            bytes=schedule.bytes,
            wanted=schedule.wanted,
            duplicates=schedule.duplicates,
            held=schedule.held,
            peers=schedule.peers(trio.current_time()),
            dropped={peer: reason.value for peer, reason in schedule.dropped.items()},
        )

    def _complaint(self, now: float) -> str:
        peers = self.schedule.peers(now)
        patience = f"none came for {self._limits.patience:.0f} s"
        why = "no peer that is left has them" if self.schedule.hopeless else patience
        connected = sum(peer.connected for peer in peers.values())
        return (
            f"{self.schedule.wanted} blocks are missing and {why}: of "
            f"{len(peers) + len(self.schedule.dropped)} peers {connected} are connected and "
            f"{len(self.schedule.dropped)} were given up. Try again when more peers are here; what came is kept."
        )
