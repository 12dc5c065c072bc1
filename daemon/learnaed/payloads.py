"""Payloads of updates on their way from peers and on to the trainer, a few blocks at a time; used by the driver."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from learnae import protocol
from learnae.cid import raw_cid
from learnae.errors import StoreError
from learnae.ledger import Entry
from learnae.peer import short
from learnae.wire import Part, Update
from learnaed import logs
from learnaed.asker import BLOCKS_AT_ONCE, Asker
from learnaed.patience import RETRY_SECONDS, Patience
from learnaed.store import DamagedStore, Store
from learnaed.trainer.supervisor import Send, Undeliverable, Unit

log = logs.get("payloads")


class Payloads:
    """Fetches the payloads of others' updates, and hands stored ones to the trainer when it is ready to take them.

    Args:
        store: where they are.
        patiently: calls the store.
        asker: asks peers.
        peers: who can be asked for a block that was damaged on the own disk.
        notify: tells the user.
    """

    def __init__(
        self,
        store: Store,
        patiently: Patience,
        asker: Asker,
        peers: Callable[[], Sequence[bytes]],
        notify: Callable[[str, str], None],
    ) -> None:
        self._store = store
        self._patiently = patiently
        self._asker = asker
        self._peers = peers
        self._notify = notify
        self._damaged: set[bytes] = set()

    # --- in

    async def fetch(self, peer: bytes, parts: Sequence[Part]) -> tuple[bytes, ...] | None:
        """The blocks of a payload from this peer; None if it does not give them; others if it lies.

        What comes of a large one is kept at once: the next attempt, even after a restart, goes on from there.
        """
        large = len(parts) > BLOCKS_AT_ONCE
        found: dict[bytes, bytes] = {}
        if large:
            found = {part.cid: block for part in parts if (block := await self._patiently(self._store.piece, part.cid))}
        missing = [part for part in dict.fromkeys(parts) if part.cid not in found]
        while missing:
            wanted = missing[:BLOCKS_AT_ONCE]
            blocks = await self._asker.blocks(peer, [part.cid for part in wanted])
            if blocks is None:
                return None
            for part, block in zip(wanted, blocks, strict=False):
                if Part(raw_cid(block), len(block)) != part:
                    return (block,)  # No need to collect the rest of a lie; the coordinator sees that it is one.
                found[part.cid] = block
                if large:
                    await self._keep(block)
            missing = missing[len(blocks) :]
        return tuple(found[part.cid] for part in parts)

    async def _keep(self, block: bytes) -> None:
        try:
            await trio.to_thread.run_sync(self._store.put, block)
        except DamagedStore:
            raise
        except StoreError as error:
            log.debug("a block is not kept before its update is complete", why=error)

    # --- on to the trainer

    def add(self, swarm: bytes, entry: Entry, ratio: int) -> Unit:
        """Has the trainer add an update."""

        async def unit(send: Send) -> None:
            fields = (entry.author, entry.seq, entry.digest, entry.slot, entry.samples, entry.norm, ratio)
            await self._send(swarm, entry, lambda pieces: protocol.Add(*fields, pieces), send)

        return unit

    def remove(self, swarm: bytes, entry: Entry) -> Unit:
        """Has the trainer subtract what it added for an update."""

        async def unit(send: Send) -> None:
            fields = (entry.author, entry.seq, entry.digest, entry.samples)
            await self._send(swarm, entry, lambda pieces: protocol.Remove(*fields, pieces), send)

        return unit

    def cut(self, swarm: bytes, index: int, token: int, minus: Sequence[Entry]) -> Unit:
        """Has the trainer write a snapshot without some updates."""

        async def unit(send: Send) -> None:
            await send(protocol.TakeCut(index, token, len(minus)))
            for entry in minus:
                await self._send(swarm, entry, _without(entry), send)

        return unit

    async def _send(
        self, swarm: bytes, entry: Entry, announcement: Callable[[int], protocol.TrainerMessage], send: Send
    ) -> None:
        update = await self._update(swarm, entry)
        await send(announcement(len(update.parts) or 1))
        if update.payload:
            await send(protocol.Piece(update.payload))
        for part in update.parts:
            while (block := await self._piece(part.cid)) is None:
                await trio.sleep(RETRY_SECONDS)
                await self._update(swarm, entry)
            await send(protocol.Piece(block))

    async def _update(self, swarm: bytes, entry: Entry) -> Update:
        update = await self._patiently(self._store.update, swarm, entry)
        if update is None:
            raise Undeliverable(
                f"update {entry.seq} of {short(entry.author)} was pruned before the trainer had come to it; "
                "the trainer starts again from a snapshot"
            )
        return update

    async def _piece(self, cid: bytes) -> bytes | None:
        """A stored block; one that the disk has damaged comes from a peer again, if one has it."""
        block = await self._patiently(self._store.piece, cid)
        if block is not None:
            return block
        if cid not in self._damaged:
            self._damaged.add(cid)
            self._notify("warning", "a stored block of an update is damaged; it is fetched from the peers again")
        for peer in self._peers():
            blocks = await self._asker.blocks(peer, [cid])
            if blocks is not None and raw_cid(blocks[0]) == cid:
                await self._patiently(self._store.put, blocks[0])
                self._damaged.discard(cid)
                return blocks[0]
        return None


def _without(entry: Entry) -> Callable[[int], protocol.TrainerMessage]:
    return lambda pieces: protocol.Without(entry.author, entry.seq, entry.digest, pieces)
