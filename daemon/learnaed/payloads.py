"""Payloads of updates on their way from peers and on to the trainer, a few blocks at a time; used by the driver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

import trio

from learnae import protocol
from learnae.cid import raw_cid
from learnae.coordinator import actions, events
from learnae.coordinator.fetcher import BATCH
from learnae.ledger import Entry
from learnae.peer import short
from learnae.wire import MAX_BLOCKS, Part, Update
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

    async def fetch(self, fetch: actions.Fetch) -> list[events.BlocksFetched]:
        """Get what is missing of these payloads from this peer; of each, what came of it.

        Each block is checked and stored when it comes. Later attempts, even after a restart, go on from there.
        """
        missing: list[tuple[bytes, Part]] = []
        failed: set[bytes] = set()
        lied = b""
        for wanted in fetch.wanted:
            for part in dict.fromkeys(wanted.parts):
                held = await self._patiently(self._store.piece, part.cid)
                if held is None:
                    missing.append((wanted.digest, part))
                elif len(held) != part.size:
                    failed.add(wanted.digest)  # The author lies about it: this payload is never complete.
        while missing := [(digest, part) for digest, part in missing if digest not in failed]:
            asked = _some(missing)
            blocks = await self._asker.blocks(fetch.peer, [part.cid for _, part in asked])
            if blocks is None:
                failed.update(digest for digest, _ in missing)
                break
            pairs = list(zip(asked, blocks, strict=False))
            good = [block for (_, part), block in pairs if Part(raw_cid(block), len(block)) == part]
            if good:
                await self._patiently(self._store.put, good)
            lied = next((digest for (digest, part), block in pairs if block and raw_cid(block) != part.cid), b"")
            if lied:
                failed.update(digest for digest, _ in missing)
            failed.update(digest for (digest, part), block in pairs if len(block) != part.size)
            missing = missing[len(blocks) :]
        self._complete.update(
            (wanted.digest, tuple(part.cid for part in wanted.parts))
            for wanted in fetch.wanted
            if wanted.digest not in failed
        )
        return [
            events.BlocksFetched(
                wanted.digest, fetch.peer, complete=wanted.digest not in failed, lied=wanted.digest == lied
            )
            for wanted in fetch.wanted
        ]

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


def _some(missing: Sequence[tuple[bytes, Part]]) -> Sequence[tuple[bytes, Part]]:
    """What to ask for at once: small blocks together, of large ones as many as fit into a reply."""
    sizes = accumulate(part.size for _, part in missing[:MAX_BLOCKS])
    return missing[: max(BLOCKS_AT_ONCE, sum(size <= BATCH for size in sizes))]
