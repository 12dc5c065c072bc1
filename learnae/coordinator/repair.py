"""Anti-entropy: notices that a peer has updates which are missing here, and asks for them; part of the coordinator."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from learnae.coordinator.actions import Action, Sync
from learnae.coordinator.peers import Peer
from learnae.coordinator.settings import Settings
from learnae.ledger import Ledger
from learnae.wire import SyncRequest


@dataclass(slots=True)
class _Exchange:
    due: float
    running: bool = False
    digest: bytes = b""


class Repair:
    """Compares digests of ledgers.

    A peer whose digest was ours some time ago is merely behind and will ask us. A digest that we never had says that
    the peer has something we lack. It may be on its way, so we wait a moment before we ask.
    """

    def __init__(self, settings: Settings, history: int = 1024) -> None:
        self._settings = settings
        self._exchanges: dict[bytes, _Exchange] = {}
        self._history: deque[bytes] = deque(maxlen=history)
        self._own: set[bytes] = set()

    def record(self, digest: bytes) -> None:
        """Remember that the own ledger had this digest."""
        if digest in self._own:
            return
        if len(self._history) == self._history.maxlen:
            self._own.discard(self._history[0])
        self._history.append(digest)
        self._own.add(digest)

    def compare(self, peer: Peer, digest: bytes, now: float) -> None:
        """A peer of the same swarm has this digest."""
        exchange = self._exchanges.get(peer.key)
        if digest in self._own:
            if exchange is not None and not exchange.running:
                del self._exchanges[peer.key]
        elif exchange is None:
            self._exchanges[peer.key] = _Exchange(now + self._settings.repair_grace, digest=digest)
        else:
            exchange.digest = digest

    def due(self, ledger: Ledger, now: float) -> list[Action]:
        """The exchanges to start now."""
        actions: list[Action] = []
        running = sum(exchange.running for exchange in self._exchanges.values())
        for key, exchange in list(self._exchanges.items()):
            if exchange.running or exchange.due > now:
                continue
            if exchange.digest in self._own:
                del self._exchanges[key]
            elif running < self._settings.parallel:
                running += 1
                exchange.running = True
                actions.append(Sync(key, SyncRequest(ledger.swarm, ledger.vector.copy())))
        return actions

    def ask(self, peer: bytes, now: float) -> None:
        """Exchange with this peer at the next occasion, whatever its digest."""
        self._exchanges.setdefault(peer, _Exchange(now))

    def replied(self, peer: bytes, now: float, *, ok: bool, more: bool) -> None:
        """An exchange ended. After a failure, or with nothing new, try again later; heartbeats tell whether to."""
        exchange = self._exchanges.get(peer)
        if exchange is None:
            return
        exchange.running = False
        exchange.due = now if ok and more else now + self._settings.retry

    def forget(self, peer: bytes) -> None:
        """The peer is gone."""
        self._exchanges.pop(peer, None)

    @property
    def running(self) -> int:
        """Exchanges under way."""
        return sum(exchange.running for exchange in self._exchanges.values())

    @property
    def idle(self) -> bool:
        """Nothing is missing, as far as the heartbeats tell."""
        return not self._exchanges
