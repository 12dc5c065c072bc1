"""Payloads of updates on their way from peers and on to the trainer, a few blocks at a time; used by the driver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import trio

from learnae import protocol
from learnae.cid import raw_cid
from learnae.coordinator import actions, events
from learnae.ledger import Entry
from learnae.peer import short
from learnae.wire import Part, Update
from learnaed.asker import BLOCKS_AT_ONCE, Asker
from learnaed.patience import RETRY_SECONDS, Patience
from learnaed.store import Store
from learnaed.trainer.supervisor import Send, Undeliverable, Unit


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
        self._loads = 0
        self._complete: dict[bytes, tuple[bytes, ...]] = {}

    # --- in

    async def fetch(self, wanted: actions.Fetch) -> events.BlocksFetched:
        """Get what is missing of a payload from this peer.

        Each block is checked and stored when it comes. Later attempts, even after a restart, go on from there.
        """
        missing = []
        for part in dict.fromkeys(wanted.parts):
            held = await self._patiently(self._store.piece, part.cid)
            if held is None:
                missing.append(part)
            elif len(held) != part.size:
                return self._fetched(wanted)  # The author lies about it: this payload is never complete.
        while missing:
            asked = missing[:BLOCKS_AT_ONCE]
            blocks = await self._asker.blocks(wanted.peer, [part.cid for part in asked])
            if blocks is None:
                return self._fetched(wanted)
            pairs = list(zip(asked, blocks, strict=False))
            good = [block for part, block in pairs if Part(raw_cid(block), len(block)) == part]
            if good:
                await self._patiently(self._store.put, good)
            if len(good) < len(blocks):
                return self._fetched(wanted, lied=any(raw_cid(block) != part.cid for part, block in pairs))
            missing = missing[len(blocks) :]
        self._complete[wanted.digest] = tuple(part.cid for part in wanted.parts)
        return self._fetched(wanted, complete=True)

    @staticmethod
    def _fetched(wanted: actions.Fetch, *, complete: bool = False, lied: bool = False) -> events.BlocksFetched:
        return events.BlocksFetched(wanted.digest, wanted.peer, complete, lied)

    async def confirmed(self, fetched: events.BlocksFetched) -> events.BlocksFetched:
        """Look once more when the update is about to be admitted: blocks that it shares with others may be gone."""
        cids = self._complete.pop(fetched.digest, None)
        if cids is None or await self._patiently(self._store.has, cids):
            return fetched
        return replace(fetched, complete=False)

    # --- on to the trainer

    def give_up(self) -> None:
        """The trainer is to load a snapshot: what it still waits for is not worth waiting for."""
        self._loads += 1

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
        loads = self._loads

        async def found(cid: bytes) -> bytes:
            while (block := await self._piece(cid)) is None:
                if loads != self._loads:
                    raise Undeliverable("a block of an update is damaged; the trainer starts again from a snapshot")
                await trio.sleep(RETRY_SECONDS)
                await self._update(swarm, entry)
            return block

        update = await self._update(swarm, entry)
        # Nothing is said before the first block is at hand: until then the trainer can do without the whole unit.
        first = await found(update.parts[0].cid) if update.parts else update.payload
        await send(announcement(len(update.parts) or 1))
        await send(protocol.Piece(first))
        for part in update.parts[1:]:
            await send(protocol.Piece(await found(part.cid)))

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
                await self._patiently(self._store.put, blocks[:1])
                self._damaged.discard(cid)
                return blocks[0]
        return None


def _without(entry: Entry) -> Callable[[int], protocol.TrainerMessage]:
    return lambda pieces: protocol.Without(entry.author, entry.seq, entry.digest, pieces)
