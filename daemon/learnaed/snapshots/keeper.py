"""Looks after the blocks on the disk in the background: sweeps, and fetches again what was damaged; run by `app`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import trio

from learnae.cid import codec_of, to_text
from learnae.errors import NetworkError, StoreError, WireError
from learnaed import logs
from learnaed.blockstore import Collected
from learnaed.ipfs import IpfsNode
from learnaed.network import Limits, Network
from learnaed.snapshots.download import note_drop
from learnaed.snapshots.shelf import Shelf

LOOK_EVERY: Final = 1.0
GAPS_EVERY: Final = 900.0
"""Seconds between two looks whether all is there: other processes read blocks, too, and drop what is damaged."""
PAUSE: Final = 0.005
"""Seconds between two steps of a sweep, in which others use the disk."""
FIRST_RETRY: Final = 5.0
LAST_RETRY: Final = 600.0
_PATIENCE = Limits(patience=15.0)
_IPFS_SECONDS = 30.0

log = logs.get("snapshots")


@dataclass(frozen=True, slots=True)
class KeeperStatistics:
    """Figures for the status endpoint."""

    lost: int
    """Blocks that pins need and that are still to be fetched again."""
    mended: int
    """Blocks that were fetched again since the start."""


class Keeper:
    """Runs beside the driver, whose turns never wait for it.

    Args:
        shelf: what it looks after.
        network: peers that are asked for what was damaged.
        ipfs: the IPFS node, if there is one now; asked for what no peer has.
        notify: tells the user, once when damage is found and once when it is made good.
    """

    def __init__(
        self,
        shelf: Shelf,
        network: Network,
        ipfs: Callable[[], IpfsNode | None],
        notify: Callable[[str, str], None],
    ) -> None:
        self._shelf = shelf
        self._store = shelf.store
        self._network = network
        self._ipfs = ipfs
        self._notify = notify
        self._lost: dict[bytes, None] = {}
        self._retry = FIRST_RETRY
        self._due = 0.0
        self._mended = 0
        self._looked = -math.inf

    def statistics(self) -> KeeperStatistics:
        """Figures for the status endpoint."""
        return KeeperStatistics(lost=len(self._lost), mended=self._mended)

    async def run(self) -> None:
        """Look after them until cancelled."""
        while True:
            await self.look()
            await trio.sleep(LOOK_EVERY)

    async def look(self) -> None:
        """Do what there is to do now. A disk that fails is tried again at the next look."""
        try:
            if self._shelf.untidy:
                await self._sweep()
            if trio.current_time() - self._looked >= GAPS_EVERY:
                self._looked = trio.current_time()
                self._take_note(await trio.to_thread.run_sync(self._gaps), "missing from")
            self._take_note(await trio.to_thread.run_sync(self._damaged), "damaged on")
            if self._lost and trio.current_time() >= self._due:
                await self._mend()
        except StoreError as error:
            log.debug("snapshots cannot be looked after", why=error)

    # --- sweeping

    async def _sweep(self) -> None:
        """Delete what nobody needs. While a snapshot is being written nothing can be: then at a later look."""
        self._shelf.untidy = False
        steps, blocks, size, finished = self._store.collecting(), 0, 0, True
        try:
            while finished and (step := await trio.to_thread.run_sync(_next, steps)) is not None:
                blocks, size, finished = blocks + step.blocks, size + step.bytes, step.finished
                await trio.sleep(PAUSE)
        except BaseException:
            finished = False
            raise
        finally:
            self._shelf.untidy |= not finished
        if blocks:
            log.info("blocks that nobody needs were deleted", blocks=blocks, bytes=size)

    # --- mending

    def _damaged(self) -> list[bytes]:
        """What reading has found damaged and a pin needs."""
        return [cid for cid in self._store.take_damaged() if self._store.is_pinned(cid) and not self._store.has(cid)]

    def _gaps(self) -> list[bytes]:
        """What pins need and is not here: damage of an earlier life."""
        found: list[bytes] = []
        for pin in self._store.pins():
            try:
                found += self._store.missing(pin.root)
            except (StoreError, WireError) as error:
                log.debug("a pinned snapshot cannot be looked through", root=to_text(pin.root), why=error)
        return found

    def _take_note(self, cids: Iterable[bytes], how: str) -> None:
        new = [cid for cid in cids if cid not in self._lost]
        if not new:
            return
        if not self._lost:
            self._notify(
                "warning",
                f"a block of a snapshot that is kept was {how} the disk, {to_text(new[0])}: it is fetched again from "
                "peers or IPFS. If that happens again, have the disk checked",
            )
        self._lost.update(dict.fromkeys(new))
        self._retry, self._due = FIRST_RETRY, 0.0

    async def _mend(self) -> None:
        wanted = await trio.to_thread.run_sync(self._still_wanted)
        self._lost = dict.fromkeys(wanted)
        before = self._mended
        if wanted:
            await self._from_peers()
        if self._lost and (node := self._ipfs()) is not None:
            await self._from_ipfs(node)
        if self._mended > before:  # Below a node that came there may be blocks that are missing, too.
            self._lost.update(dict.fromkeys(await trio.to_thread.run_sync(self._gaps)))
        if not self._lost:
            if self._mended > before:
                self._notify("info", "what was damaged of the snapshots is here again")
            return
        self._due = trio.current_time() + self._retry
        self._retry = min(2 * self._retry, LAST_RETRY)
        log.info("blocks that were damaged are not here again yet", blocks=len(self._lost))

    def _still_wanted(self) -> list[bytes]:
        return [cid for cid in self._lost if self._store.is_pinned(cid) and not self._store.has(cid)]

    async def _from_peers(self) -> None:
        peers = self._network.connected()
        if not peers:
            return
        try:
            with self._network.session(peers, limits=_PATIENCE, on_drop=note_drop) as session:
                session.want(list(self._lost))
                async for cid, block in session:
                    await self._keep(cid, block)
        except NetworkError as error:
            log.info("no peer gives what was damaged", blocks=len(self._lost), why=error)

    async def _from_ipfs(self, node: IpfsNode) -> None:
        for cid in list(self._lost):
            try:
                await self._keep(cid, await node.read(cid, _IPFS_SECONDS))
            except (NetworkError, WireError) as error:
                log.info("the IPFS node does not give what was damaged", cid=to_text(cid), why=error)
                return

    async def _keep(self, cid: bytes, block: bytes) -> None:
        def keep() -> None:
            with self._store.lease() as lease:
                lease.put(codec_of(cid), block)

        await trio.to_thread.run_sync(keep)
        self._network.blocks_arrived([cid])
        self._lost.pop(cid, None)
        self._mended += 1


def _next(steps: Iterator[Collected]) -> Collected | None:
    return next(steps, None)
