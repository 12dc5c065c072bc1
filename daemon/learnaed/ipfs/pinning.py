"""Keeps the user's IPFS node holding the latest snapshots: finds it, sends, pins, unpins; run by the daemon.

All decisions are `Pinner`'s. Nothing here stops the training: what fails is tried again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from learnae.errors import NetworkError, StoreError, WireError
from learnaed.ipfs.address import nearby
from learnaed.ipfs.book import PinBook
from learnaed.ipfs.node import BlockSupply, Identity, IpfsNode, Kind, Limits, discover
from learnaed.ipfs.pinner import Connect, Job, Pin, Pinner, State, Unpin, Wait

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IpfsStatistics:
    """How the pinning goes, for the status endpoint."""

    state: State
    why: str
    """Of the last failure; empty once all is done again."""
    address: str | None
    """Of the RPC API."""
    node: str | None
    """Peer id of the IPFS node."""
    agent: str | None
    """Its program and version."""
    last_success: float | None
    """When something was last pinned or unpinned there, or all was found in order; seconds since 1970."""
    pins: int
    """Pins there that we made."""
    queue: int
    """Pins still to be made or removed."""
    imports: int
    """Snapshots and manifests sent."""
    bytes_sent: int
    failures: int
    """Since all was done."""


class IpfsPinning:
    """The pins on one IPFS node.

    Args:
        supply: our blocks.
        book: file that remembers which pins are ours.
        notify: tells the user, with a level.
        address: of the node's RPC API; None looks for one on this machine, again and again until there is one.
        reachable: our own libp2p addresses with peer id, which the node is asked to dial, so that Bitswap works too.
        limits: how long the node may take.
        seed: of the jitter between retries.
        search: where to look for a node if no address is given.
        wall: the time of day, for the statistics.

    Raises:
        ConfigError: nothing can be at that address.
        StoreError: the book cannot be read.
    """

    def __init__(
        self,
        supply: BlockSupply,
        book: Path,
        notify: Callable[[str, str], None],
        address: str | None = None,
        reachable: Callable[[], Sequence[str]] = tuple,
        limits: Limits | None = None,
        seed: int | None = None,
        search: Callable[[], Iterable[str]] = lambda: nearby(os.environ),
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._supply = supply
        self._book = PinBook(book)
        self._pinner = Pinner(notify, seed)
        self._limits = limits
        self._given = IpfsNode(address, limits) if address is not None else None
        self._node = self._given
        self._identity: Identity | None = None
        self._reachable = reachable
        self._search = search
        self._wall = wall
        self._wake = trio.Event()
        self._last_success: float | None = None
        self._imports = 0
        self._bytes_sent = 0

    @property
    def node(self) -> IpfsNode | None:
        """The IPFS node, if one is given or found: snapshots can be fetched from it too."""
        return self._node

    @property
    def identity(self) -> Identity | None:
        """Who that node said that it is when it was last reached; its addresses are for the own libp2p host to dial."""
        return self._identity

    def want(self, roots: Iterable[bytes], direct: Iterable[bytes] = ()) -> None:
        """What shall be pinned from now on: `Pinner.want`. Until the first call nothing is pinned or removed."""
        self._pinner.want(roots, direct)
        self._wake.set()

    async def run(self) -> None:
        """Work for ever."""
        while True:
            self._wake = trio.Event()
            job = self._pinner.next(trio.current_time())
            if isinstance(job, Wait):
                if self._pinner.state is State.OK:
                    self._last_success = self._wall()
                with trio.move_on_at(job.until):
                    await self._wake.wait()
                continue
            try:
                await self._carry_out(job)
            except (NetworkError, StoreError, WireError) as error:
                self._pinner.failed(job, str(error), trio.current_time())

    async def _carry_out(self, job: Job) -> None:
        if isinstance(job, Connect):
            await self._connect()
            return
        if self._node is None or self._identity is None:
            raise NetworkError("there is no IPFS node", code="ipfs-away")  # Not reached: the pinner connects first.
        if isinstance(job, Pin):
            own = await self._pin(self._node, self._identity.id, job)
            self._pinner.pinned(job, own)
        else:
            await self._unpin(self._node, self._identity.id, job)
            self._pinner.unpinned(job)
        self._last_success = self._wall()

    async def _connect(self) -> None:
        node = self._given or await discover(await trio.to_thread.run_sync(self._search), self._limits)
        if node is None:
            self._node = self._identity = None
            self._pinner.absent(trio.current_time())
            return
        self._node, self._identity = node, await node.identify()
        name = f"the IPFS node at {node.address} ({self._identity.agent})"
        self._pinner.connected(name, self._book.of(self._identity.id))
        for address in self._reachable():
            try:
                await node.connect_to(address)
            except (NetworkError, WireError) as error:
                _log.debug("the IPFS node does not dial us at %s: %s", address, error)
            else:
                break

    async def _pin(self, node: IpfsNode, name: str, job: Pin) -> bool:
        """Whether the pin, which is there afterwards, is ours."""
        kind: Kind = "recursive" if job.recursive else "direct"
        there = await node.pinned(job.root)
        own = job.root in self._book.of(name)
        if there is not None and not own:
            return False
        if there not in (kind, "recursive"):
            await trio.to_thread.run_sync(self._book.add, name, job.root, kind)
            self._bytes_sent += await node.import_dag(job.root, self._supply, job.recursive)
            self._imports += 1
            await node.pin(job.root, job.recursive)
            if await node.pinned(job.root) is None:
                raise NetworkError(
                    f"the IPFS node at {node.address} says that it pinned a snapshot, but lists no such pin",
                    code="ipfs-refused",
                )
            await node.read(job.root)
        return True

    async def _unpin(self, node: IpfsNode, name: str, job: Unpin) -> None:
        if kind := await node.pinned(job.root):
            await node.unpin(job.root, kind == "recursive")
        await trio.to_thread.run_sync(self._book.remove, name, job.root)

    def statistics(self) -> IpfsStatistics:
        """How it stands."""
        identity = self._identity
        return IpfsStatistics(
            state=self._pinner.state,
            why=self._pinner.why,
            address=self._node.address if self._node else None,
            node=identity.id if identity else None,
            agent=identity.agent if identity else None,
            last_success=self._last_success,
            pins=self._pinner.own,
            queue=self._pinner.queue,
            imports=self._imports,
            bytes_sent=self._bytes_sent,
            failures=self._pinner.failures,
        )
