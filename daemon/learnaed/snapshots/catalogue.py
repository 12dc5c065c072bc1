"""The kept cuts for the user: listed with who attests them, pinned and unpinned, handed to IPFS; used by `Node`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import trio

from learnae.cid import from_text
from learnae.coordinator import Coordinator
from learnae.errors import StoreError
from learnaed.ipfs import IpfsPinning
from learnaed.snapshots.archive import Archive, Kept
from learnaed.snapshots.download import Progress
from learnaed.snapshots.finder import Finder
from learnaed.snapshots.importing import Importer
from learnaed.snapshots.keeper import Keeper

LAST = 3
"""How many of the newest cuts an IPFS node gets, besides milestones and what the user pinned."""


class Catalogue:
    """What is kept, and the verbs that change it.

    Args:
        archive: the cuts.
        finder: brings cuts that are elsewhere.
        importer: reads them from files.
        coordinator: knows what others attest.
        pinning: keeps the IPFS node in step, if one is wanted.
        keeper: looks after the blocks.
    """

    def __init__(
        self,
        archive: Archive,
        finder: Finder,
        importer: Importer,
        coordinator: Coordinator,
        pinning: IpfsPinning | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self._archive = archive
        self._finder = finder
        self._importer = importer
        self._coordinator = coordinator
        self._pinning = pinning
        self._keeper = keeper
        self._handing_over = trio.Lock()

    async def rows(self) -> list[dict[str, Any]]:
        """One for each cut, and for each snapshot that was pinned without one, oldest first, ready for JSON.

        Raises:
            StoreError: the disk cannot be read.
        """
        loose = [one.row() | {"attested_by": 0} for one in await trio.to_thread.run_sync(self._archive.loose)]
        return loose + [self._row(kept) for kept in await trio.to_thread.run_sync(self._archive.cuts)]

    def _row(self, kept: Kept) -> dict[str, Any]:
        cut = kept.manifest.id
        attesting = sum(peer.attests(cut) for peer in self._coordinator.peers)
        return kept.row() | {"attested_by": attesting}

    async def pin(self, text: str) -> dict[str, Any]:
        """Keep the cut with this CID until it is unpinned; it is fetched if it is not here.

        Raises:
            WireError: it is no CID of a cut.
            NetworkError: nobody has it.
            StoreError: there is no room.
        """
        await self._finder.cut(text, self._archive.pin)
        kept = await trio.to_thread.run_sync(self._archive.find, text)
        await self.hand_over()
        if kept is None:
            raise StoreError(f"the cut {text} was unpinned meanwhile: pin it again", code="not-pinned")
        return self._row(kept)

    async def unpin(self, text: str) -> None:
        """Take that back.

        Raises:
            WireError: it is no CID.
            StoreError: it is not pinned.
        """
        from_text(text)
        await trio.to_thread.run_sync(self._archive.unpin, text)
        await self.hand_over()

    async def take(self, path: Path) -> dict[str, Any]:
        """Take in a file that holds a cut or a snapshot, and pin it; what it was.

        Raises:
            WireError: it holds neither, or is damaged.
            StoreError: it cannot be read, or there is no room.
        """
        found = await trio.to_thread.run_sync(self._importer.file, path, trio.from_thread.check_cancelled)
        await self.hand_over()
        return found.row()

    def activity(self) -> dict[str, Any]:
        """What is being done on the user's word, and how the blocks are looked after; for the status endpoint."""
        importing, keeper = self._importer.progress, self._keeper
        return {
            "importing": None if importing is None else asdict(importing),
            **({"lost": 0, "mended": 0} if keeper is None else asdict(keeper.statistics())),
        }

    @property
    def download(self) -> Progress | None:
        """The snapshot that is being fetched for `pin` or `--from`, if one is."""
        return self._finder.progress

    async def hand_over(self) -> None:
        """Tell the IPFS node's keeper what it shall have: the newest cuts first."""
        if self._pinning is None:
            return
        async with self._handing_over:  # or an older list could overtake a newer one
            kept = await trio.to_thread.run_sync(self._archive.cuts)
            newest = [one for one in kept if one.manifest.swarm == self._swarm(kept)][-LAST:]
            others = [one for one in kept if one not in newest and (one.milestone or one.pinned)]
            self._pinning.want(one.manifest.cid for one in reversed([*others, *newest]))

    def _swarm(self, kept: list[Kept]) -> bytes:
        """The swarm whose cuts matter most: this node's, or, before it has one, that of the cut that came last."""
        ledger = self._coordinator.ledger
        if ledger is not None:
            return ledger.swarm
        return max(kept, key=lambda one: one.since).manifest.swarm if kept else b""

    def statistics(self) -> dict[str, Any] | None:
        """How it goes with the IPFS node; None without one."""
        if self._pinning is None:
            return None
        found = self._pinning.statistics()
        return {
            "state": found.state.value,
            "why": found.why or None,
            "address": found.address,
            "node": found.node,
            "agent": found.agent,
            "last_success": found.last_success,
            "pins": found.pins,
            "queue": found.queue,
            "imports": found.imports,
            "bytes_sent": found.bytes_sent,
            "failures": found.failures,
        }
