"""Pulls the payloads of announced updates from whoever holds them, a few at a time; part of the coordinator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from learnae.coordinator.actions import Action, Fetch, Wanted
from learnae.coordinator.settings import Settings
from learnae.vector import UpdateId
from learnae.wire import MAX_INLINE, Signed, Update

SMALL: Final = 16 * 1024
"""Most bytes of a payload that is asked for together with others,"""
BATCH: Final = 128 * 1024
"""most bytes that are asked for in one request then,"""
TOGETHER: Final = 32
"""and of how many blocks."""
HOLD: Final = 2.0
"""So many seconds, at most, a peer is let wait for blocks that are being fetched here, if none of them is here yet."""
_LONGEST_WAIT = 15.0
_CYCLES = 8
_FEW = 8
"""Among so many members every payload that may ride does."""
_LEAST_RIDING = 1024
"""However many they are, so much may ride."""
_CHANCES = 3
_PART_OF_SLOT = 40
"""An update waits for others no longer than this part of a slot."""


def riding(members: int) -> int:
    """Most bytes of a payload that ride in the announcement, in a swarm with so many other members.

    Gossip brings an announcement to everybody about twice, a fetched payload comes once. That pays for the requests
    above 1 kB among forty members, of whose payloads two or three are asked for together. Few members have fewer to ask
    for together, and mostly short slots: they are spared the round trip.
    """
    return max(_LEAST_RIDING, MAX_INLINE * _FEW // max(_FEW, members))


@dataclass(slots=True)
class _Pending:
    signed: Signed[Update]
    holders: list[bytes]
    due: float
    gather: float = 0.0
    """Seconds that it waits for others."""
    chances: int = 0
    """So many times more the same peer is asked if it does not have it yet."""
    wait: float = 1.0
    cycles: int = 0
    exchange: int = 0
    """In which one it is being fetched; 0 for none."""
    asked: bytes = b""
    """Who was asked last."""
    tried: set[bytes] = field(default_factory=set)

    @property
    def small(self) -> bool:
        """It may be asked for together with others."""
        return self.signed.message.size <= SMALL and len(self.signed.message.parts) <= TOGETHER

    @property
    def wanted(self) -> Wanted:
        """What to ask for."""
        return Wanted(self.signed.digest, self.signed.message.parts)

    def pause(self, now: float) -> None:
        """Nobody has it: try all of them again a while later, each time a longer one."""
        self.tried.clear()
        self.cycles += 1
        self.due = now + self.wait
        self.wait = min(2 * self.wait, _LONGEST_WAIT)


class Fetcher:
    """Updates whose signature is good and whose payload is not here yet.

    Holders are tried in turn: who announced it, its author, then every member of the swarm; after all have failed,
    again with growing pauses. Small payloads that one peer holds are asked for together: each waits a moment for
    others, and, if that peer is being asked already, for its answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pending: dict[bytes, _Pending] = {}
        """By digest: an author may sign two contents under one number, and have the payload of one of them."""
        self._exchanges = 0

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._pending

    def __iter__(self) -> Iterator[UpdateId]:
        return iter({(p.signed.author, p.signed.message.seq) for p in self._pending.values()})

    def awaits(self, cids: Iterable[bytes]) -> bool:
        """Whether one of these blocks, of a small payload, is being fetched: who asks for it here may wait a moment."""
        wanted = frozenset(cids)
        return any(part.cid in wanted for p in self._pending.values() if p.small for part in p.signed.message.parts)

    def full(self, author: bytes) -> bool:
        """No room for another update of this author."""
        mine = sum(p.signed.author == author for p in self._pending.values())
        return len(self._pending) >= self._settings.pending or mine >= self._settings.pending_of_one

    def add(self, signed: Signed[Update], source: bytes, now: float, slot_seconds: float) -> None:
        """Fetch the payload of this update; or, if that is under way, note that `source` holds it too.

        If it is small, in a moment, of slots that last `slot_seconds` a small part.
        """
        pending = self._pending.get(signed.digest)
        if pending is None:
            pending = self._pending[signed.digest] = _Pending(signed, [], now)
            if pending.small:
                pending.gather = min(self._settings.gather, slot_seconds / _PART_OF_SLOT)
                pending.chances = _CHANCES
                pending.due += pending.gather
        for holder in (source, signed.author):
            if holder not in pending.holders:
                pending.holders.append(holder)

    def due(self, others: Iterable[bytes], reachable: Callable[[bytes], bool], now: float) -> list[Action]:
        """The requests to send now; `others` are the swarm's members, who may hold any update."""
        self._give_up()
        running = [pending for pending in self._pending.values() if pending.exchange]
        waiting = [pending for pending in self._pending.values() if not pending.exchange]
        free = self._settings.parallel - len({pending.exchange for pending in running})
        busy = {pending.signed.author for pending in running}
        asked = {pending.asked for pending in running if pending.small}
        everybody = list(others)
        requests: list[tuple[bytes, list[_Pending]]] = []
        together: dict[bytes, list[_Pending]] = {}
        for pending in waiting:
            # One at a time of each author: nobody can occupy all with payloads that do not exist.
            if len(requests) >= free or pending.due > now or pending.signed.author in busy:
                continue
            candidates = chain(pending.holders, everybody)
            holder = next((key for key in candidates if key not in pending.tried and reachable(key)), None)
            if holder is None:
                pending.pause(now)
            elif not pending.small:
                requests.append((holder, [pending]))
                busy.add(pending.signed.author)
            elif holder not in asked:
                asked.add(holder)
                requests.append((holder, together.setdefault(holder, [pending])))
                busy.add(pending.signed.author)
        for holder, batch in together.items():
            _fill(batch, holder, waiting, busy)
        return [self._request(holder, batch) for holder, batch in requests]

    def _request(self, holder: bytes, batch: list[_Pending]) -> Fetch:
        self._exchanges += 1
        for pending in batch:
            pending.tried.add(holder)
            pending.exchange, pending.asked = self._exchanges, holder
        return Fetch(holder, tuple(pending.wanted for pending in batch))

    def _give_up(self) -> None:
        # Nobody had it for a minute. If it exists after all, repair brings it back; invented ones must not pile up.
        hopeless = [digest for digest, p in self._pending.items() if p.cycles >= _CYCLES and not p.exchange]
        for digest in hopeless:
            del self._pending[digest]

    def forget(self) -> None:
        """Nothing of what was announced is wanted any more."""
        self._pending.clear()

    def wake(self) -> None:
        """Somebody came (back) who may hold what nobody had: try everything again now."""
        for pending in self._pending.values():
            pending.due, pending.wait = 0.0, 1.0
            pending.tried.clear()

    def fetched(self, digest: bytes, now: float, *, complete: bool) -> Signed[Update] | None:
        """A fetch ended; returns the update if its payload is now complete."""
        pending = self._pending.get(digest)
        if pending is None:
            return None
        pending.exchange = 0
        if not complete:
            if pending.chances:
                # Who announces a payload may still be fetching it. Others who heard of it later have it later still.
                pending.chances -= 1
                pending.tried.discard(pending.asked)
                pending.due = now + pending.gather
            return None
        del self._pending[digest]
        return pending.signed


def _fill(batch: list[_Pending], holder: bytes, waiting: Iterable[_Pending], busy: set[bytes]) -> None:
    """Ask this holder at once for what it has announced besides; what waits for company has found it."""
    room = BATCH - sum(pending.signed.message.size for pending in batch)
    parts = TOGETHER - sum(len(pending.signed.message.parts) for pending in batch)
    for pending in waiting:
        message, author = pending.signed.message, pending.signed.author
        if not pending.small or author in busy or holder in pending.tried or holder not in pending.holders:
            continue
        if message.size <= room and len(message.parts) <= parts:
            room, parts = room - message.size, parts - len(message.parts)
            batch.append(pending)
            busy.add(author)
