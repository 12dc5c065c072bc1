"""Pulls the payloads of announced updates from whoever holds them, a few at a time; part of the coordinator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from learnae.coordinator.actions import Action, Fetch
from learnae.coordinator.settings import Settings
from learnae.vector import UpdateId
from learnae.wire import Signed, Update

_LONGEST_WAIT = 15.0
_CYCLES = 8


@dataclass(slots=True)
class _Pending:
    signed: Signed[Update]
    holders: list[bytes]
    due: float = 0.0
    wait: float = 1.0
    cycles: int = 0
    running: bool = False
    tried: set[bytes] = field(default_factory=set)


class Fetcher:
    """Updates whose signature is good and whose payload is not here yet.

    Holders are tried in turn: who announced it, its author, then every member of the swarm; after all have failed,
    again with growing pauses.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pending: dict[bytes, _Pending] = {}
        """By digest: an author may sign two contents under one number, and have the payload of one of them."""

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._pending

    def __iter__(self) -> Iterator[UpdateId]:
        return iter({(p.signed.author, p.signed.message.seq) for p in self._pending.values()})

    def full(self, author: bytes) -> bool:
        """No room for another update of this author."""
        mine = sum(p.signed.author == author for p in self._pending.values())
        return len(self._pending) >= self._settings.pending or mine >= self._settings.pending_of_one

    def add(self, signed: Signed[Update], source: bytes) -> None:
        """Fetch the payload of this update; or, if that is under way, note that `source` holds it too."""
        pending = self._pending.setdefault(signed.digest, _Pending(signed, []))
        for holder in (source, signed.author):
            if holder not in pending.holders:
                pending.holders.append(holder)

    def due(self, others: Iterable[bytes], reachable: Callable[[bytes], bool], now: float) -> list[Action]:
        """The fetches to start now; `others` are the swarm's members, who may hold any update."""
        actions: list[Action] = []
        self._give_up()
        busy = [pending.signed.author for pending in self._pending.values() if pending.running]
        everybody = list(others)
        for digest, pending in self._pending.items():
            if len(busy) >= self._settings.parallel:
                break
            # One at a time of each author: nobody can occupy all with payloads that do not exist.
            if pending.running or pending.due > now or pending.signed.author in busy:
                continue
            candidates = [*pending.holders, *(key for key in everybody if key not in pending.holders)]
            holder = next((key for key in candidates if key not in pending.tried and reachable(key)), None)
            if holder is None:
                pending.tried.clear()
                pending.cycles += 1
                pending.due = now + pending.wait
                pending.wait = min(2 * pending.wait, _LONGEST_WAIT)
                continue
            pending.tried.add(holder)
            pending.running = True
            busy.append(pending.signed.author)
            actions.append(Fetch(digest, holder, pending.signed.message.parts))
        return actions

    def _give_up(self) -> None:
        # Nobody had it for a minute. If it exists after all, repair brings it back; invented ones must not pile up.
        hopeless = [digest for digest, p in self._pending.items() if p.cycles >= _CYCLES and not p.running]
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

    def fetched(self, digest: bytes, *, complete: bool) -> Signed[Update] | None:
        """A fetch ended; returns the update if its payload is now complete."""
        pending = self._pending.get(digest)
        if pending is None:
            return None
        pending.running = False
        if not complete:
            return None
        del self._pending[digest]
        return pending.signed
