"""Anti-entropy: notices that a peer has updates which are missing here, and asks for them; part of the coordinator."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from learnae.coordinator.actions import Action, Sync
from learnae.coordinator.settings import Settings
from learnae.ledger import Ledger
from learnae.vector import UpdateId


@dataclass(slots=True)
class _Exchange:
    due: float
    running: bool = False
    started: float = 0.0
    digest: bytes = b""
    updates: int = 0
    heard: int = 0
    """Heartbeats in a row whose digest we never had."""

    def worth_asking(self, held: int) -> bool:
        # While updates are under way everybody holds another subset of them. A peer that holds fewer than we do is
        # therefore asked only if the difference lasts.
        return not self.digest or self.updates > held or self.heard >= 2


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

    def begin(self, digest: bytes) -> None:
        """The own ledger is another one now: what it was before says nothing about who is behind."""
        self._history.clear()
        self._own.clear()
        self.record(digest)

    def has_had(self, digest: bytes) -> bool:
        """Whether the own ledger had this digest: who has it now holds nothing that is missing here."""
        return digest in self._own

    def compare(self, peer: bytes, digest: bytes, updates: int, now: float) -> None:
        """A peer of the same swarm holds this many updates, with this digest."""
        exchange = self._exchanges.get(peer)
        if digest in self._own:
            if exchange is not None and not exchange.running:
                del self._exchanges[peer]
            return
        if exchange is None:
            exchange = self._exchanges[peer] = _Exchange(now + self._settings.repair_grace)
        exchange.digest, exchange.updates = digest, updates
        exchange.heard += 1

    def due(self, ledger: Ledger, announced: Iterable[UpdateId], now: float) -> list[Action]:
        """The exchanges to start now; `announced` updates are known already, though their payload is not here yet."""
        actions: list[Action] = []
        running = [exchange.started for exchange in self._exchanges.values() if exchange.running]
        for key, exchange in list(self._exchanges.items()):
            if exchange.running or exchange.due > now:
                continue
            if exchange.digest in self._own:
                del self._exchanges[key]
            elif exchange.worth_asking(len(ledger)) and self._room(running, now):
                running.append(now)
                exchange.running, exchange.started = True, now
                actions.append(Sync(key, ledger.request(announced)))
        return actions

    def _room(self, running: list[float], now: float) -> bool:
        # One answer usually brings all that is missing. Only if it is slow to come is somebody else asked too.
        return not running or (len(running) < self._settings.parallel and now - max(running) >= self._settings.slow)

    def ask(self, peer: bytes, now: float) -> None:
        """Exchange with this peer at the next occasion, whatever its digest."""
        exchange = self._exchanges.setdefault(peer, _Exchange(now))
        exchange.digest = b""

    def shift(self, gap: float) -> None:
        """The clock has jumped by so many seconds."""
        for exchange in self._exchanges.values():
            exchange.due += gap
            exchange.started += gap

    def replied(self, peer: bytes, now: float, *, more: bool) -> None:
        """An exchange ended; `more` if the peer has more to give now. Else heartbeats tell whether to ask again."""
        exchange = self._exchanges.get(peer)
        if exchange is None:
            return
        exchange.running = False
        if more:
            exchange.due, exchange.digest = now, b""
        else:
            exchange.due, exchange.heard = now + self._settings.retry, 0

    def forget(self, peer: bytes) -> None:
        """The peer is gone."""
        self._exchanges.pop(peer, None)

    @property
    def running(self) -> int:
        """Exchanges under way."""
        return sum(exchange.running for exchange in self._exchanges.values())
