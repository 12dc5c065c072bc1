"""Who could be reached where, and the task that keeps trying; used by `Network`."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from enum import IntEnum

import trio

from learnae.errors import NetworkError
from learnaed.network.addresses import Address
from learnaed.network.settings import Counters

_log = logging.getLogger(__name__)

MAX_PEERS = 1000
MAX_ADDRESSES = 8
PARALLEL_DIALS = 4
DIAL_SECONDS = 6.0
FIRST_RETRY = 1.0
LAST_RETRY = 60.0
# Peers that were connected before are dialled more often while they are few: one of them each second at most.
LAST_RETRY_MET = 10.0
BRIEF = 5.0
# Both sides of a new pair know of each other at the same time: the smaller id dials, the other waits this long.
POLITE_WAIT = 2.0


Dial = Callable[[Address], Awaitable[None]]


class Source(IntEnum):
    """Where an address comes from, the most trusted last."""

    HEARD = 0
    DISCOVERED = 1
    WORKED = 2
    GIVEN = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an address did not lead to its peer when it was dialled last, and when that was (Unix time)."""

    code: str
    text: str
    time: float


@dataclass(frozen=True, slots=True)
class Dialled:
    """What is known of one address of one peer."""

    peer: str
    address: str
    source: str  # "heard", "discovered", "worked" or "given"
    failures: int
    """Rounds of dials to this peer in a row in which no address worked."""
    failure: Failure | None
    """None: it worked, or was not tried."""


@dataclass(slots=True)
class Candidate:
    """A peer that is not us, with its addresses (oldest first) and its next dial."""

    peer: str
    addresses: dict[Address, Source] = field(default_factory=dict)
    failures: int = 0
    due: float = math.inf
    dialling: bool = False
    met: bool = False
    """It was connected in this run."""
    proven: set[Address] = field(default_factory=set)
    """Those that led to the peer, in this run, when they were dialled last."""
    failed: dict[Address, Failure] = field(default_factory=dict)
    since: float = -math.inf
    """When the last connection came up."""
    brief: int = 0
    """How many connections in a row ended within `BRIEF` seconds."""
    stranger: bool = False
    """It answered, but belongs to another swarm."""

    def add(self, address: Address, source: Source) -> None:
        self.addresses[address] = max(source, self.addresses.pop(address, source))
        while len(self.addresses) > MAX_ADDRESSES:
            weakest = min(self.addresses, key=self.addresses.__getitem__)
            del self.addresses[weakest]
            self.proven.discard(weakest)
            self.failed.pop(weakest, None)

    def ordered(self) -> list[Address]:
        """The most trusted first; among equals the newest."""
        rank = {address: (min(source, Source.WORKED), n) for n, (address, source) in enumerate(self.addresses.items())}
        return sorted(self.addresses, key=rank.__getitem__, reverse=True)

    @property
    def trust(self) -> Source:
        return max(self.addresses.values(), default=Source.HEARD)


class Dialer:
    """Keeps connections to all candidates: jittered exponential backoff, few dials at once, never ourselves."""

    def __init__(
        self,
        own: str,
        counters: Counters,
        seed: int | None = None,
        permits: Callable[[str], bool] = lambda peer: True,
    ) -> None:
        self._own = own
        self._permits = permits
        self._counters = counters
        self._random = random.Random(seed)
        self._candidates: dict[str, Candidate] = {}
        self._wake = trio.Event()

    def __len__(self) -> int:
        return len(self._candidates)

    def add(self, addresses: Iterable[Address], source: Source, now: float) -> None:
        """Learn addresses (each with its peer id). Seen anew by discovery, a peer is dialled without backoff."""
        for address in addresses:
            peer = address.peer
            if peer is None or peer == self._own or not address.dialable or not self._permits(peer):
                continue
            candidate = self._candidates.get(peer)
            if candidate is None:
                if len(self._candidates) >= MAX_PEERS and not self._forget_one(source):
                    continue
                candidate = self._candidates[peer] = Candidate(peer)
            known = address.of(None) in candidate.addresses
            candidate.add(address.of(None), source)
            if source is Source.DISCOVERED or not known:
                candidate.failures = 0
                candidate.due = min(candidate.due, now + self._politeness(candidate))
        self._wake.set()

    def _forget_one(self, source: Source) -> bool:
        """Make room by dropping the least trusted, longest failing candidate, unless all are better than `source`."""
        worst = min(self._candidates.values(), key=lambda c: (c.trust, -c.failures))
        if worst.trust > source or worst.dialling:
            return False
        del self._candidates[worst.peer]
        return True

    def _politeness(self, candidate: Candidate) -> float:
        if candidate.trust is Source.GIVEN or self._own < candidate.peer:
            return self._random.uniform(0.0, 0.1)
        return POLITE_WAIT + self._random.uniform(0.0, 0.5)

    def met(self, peer: str, now: float) -> None:
        """A connection is up. Had dials to this peer failed, then the network was away: others may be back too."""
        candidate = self._candidates.get(peer)
        if candidate is None:
            return
        candidate.since = now
        back = candidate.met and candidate.failures > 0
        candidate.met, candidate.failures = True, 0
        if not back:
            return
        for other in self._candidates.values():
            if other.met and other.failures:
                other.failures = 0
                other.due = min(other.due, now + self._politeness(other))
        self._wake.set()

    def lost(self, peer: str, now: float) -> None:
        """A connection ended: dial again soon, as for a new peer, unless they keep ending as soon as they are up: a
        peer that denies us does that."""
        candidate = self._candidates.get(peer)
        if candidate is not None:
            candidate.brief = candidate.brief + 1 if now - candidate.since < BRIEF else 0
            wait = min(LAST_RETRY, (0.2 + self._politeness(candidate)) * 2.0 ** min(max(candidate.brief - 1, 0), 10))
            candidate.due = now + (LAST_RETRY * self._random.uniform(0.5, 1.0) if candidate.stranger else wait)
            self._wake.set()

    def refused(self, peer: str) -> None:
        """The peer does not know this swarm's secret, or we not its own: it is dialled again, but rarely."""
        candidate = self._candidates.get(peer)
        if candidate is not None:
            candidate.stranger = True

    def forgive(self, now: float, peer: str | None = None) -> None:
        """This peer has turned out to be a member, or all are to be tried anew."""
        found = self._candidates.values() if peer is None else (self._candidates.get(peer),)
        for candidate in found:
            if candidate is not None and candidate.stranger:
                candidate.stranger = False
                candidate.due = min(candidate.due, now + self._politeness(candidate))
        self._wake.set()

    def worked(self) -> dict[str, list[str]]:
        """Addresses that led to their peer in this run, when they were dialled last."""
        return {
            candidate.peer: [str(a.of(candidate.peer)) for a in candidate.addresses if a in candidate.proven]
            for candidate in self._candidates.values()
            if candidate.proven
        }

    def report(self) -> list[Dialled]:
        """Every address of every candidate, with what came of dialling it last; the best candidates first."""
        ranked = sorted(self._candidates.values(), key=lambda candidate: (-candidate.trust, candidate.peer))
        return [
            Dialled(c.peer, str(a), c.addresses[a].name.lower(), c.failures, c.failed.get(a))
            for c in ranked
            for a in c.ordered()
        ]

    async def run(self, dial: Dial, connected: Collection[str], max_connections: int) -> None:
        """Dial for ever. `dial` connects to one address (with its peer id) or raises NetworkError."""
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                now = trio.current_time()
                due = [c for c in self._candidates.values() if self._wanted(c, connected)]
                due.sort(key=lambda candidate: candidate.due)
                busy = sum(candidate.dialling for candidate in self._candidates.values())
                room = min(PARALLEL_DIALS, max_connections - len(connected)) - busy
                for candidate in due[: max(room, 0)]:
                    if candidate.due <= now:
                        candidate.dialling = True
                        nursery.start_soon(self._dial, candidate, dial)
                waiting = [candidate.due for candidate in due if candidate.due > now]
                with trio.move_on_at(min(waiting, default=math.inf)):
                    await self._wake.wait()

    def _wanted(self, candidate: Candidate, connected: Collection[str]) -> bool:
        return not candidate.dialling and candidate.peer not in connected

    async def _dial(self, candidate: Candidate, dial: Dial) -> None:
        try:
            for address in candidate.ordered():
                self._counters.dials += 1
                try:
                    with trio.fail_after(DIAL_SECONDS):
                        await dial(address.of(candidate.peer))
                except (NetworkError, trio.TooSlowError) as error:
                    self._counters.dial_failures += 1
                    candidate.proven.discard(address)
                    candidate.failed[address] = _failure(error)
                    _log.debug("could not reach %s at %s: %s", candidate.peer, address, error)
                else:
                    self.met(candidate.peer, trio.current_time())
                    candidate.add(address, Source.WORKED)
                    candidate.proven.add(address)
                    candidate.failed.pop(address, None)
                    break
            else:
                candidate.failures += 1
        finally:
            candidate.dialling = False
            wait = min(self._last_retry(candidate), FIRST_RETRY * 2.0 ** min(candidate.failures, 10))
            wait = LAST_RETRY if candidate.stranger else wait
            candidate.due = trio.current_time() + wait * self._random.uniform(0.5, 1.0)
            self._wake.set()

    def _last_retry(self, candidate: Candidate) -> float:
        if not candidate.met:
            return LAST_RETRY
        away = sum(other.met and other.failures > 0 for other in self._candidates.values())
        return min(LAST_RETRY, max(LAST_RETRY_MET, float(away)))


def _failure(error: NetworkError | trio.TooSlowError) -> Failure:
    if isinstance(error, NetworkError):
        return Failure(error.code, str(error), time.time())
    return Failure("peer-timeout", f"no answer within {DIAL_SECONDS:.0f} s: the PC is off, or a firewall", time.time())
