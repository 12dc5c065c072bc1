"""Heartbeats: when this node says how it is, and what it says; part of the coordinator."""

from __future__ import annotations

import math
from collections.abc import Callable

from learnae import __version__
from learnae.coordinator.actions import PublishHeartbeat
from learnae.coordinator.cuts import Cuts
from learnae.coordinator.settings import Settings
from learnae.genesis import Genesis
from learnae.ledger import Ledger
from learnae.wire import Heartbeat, seal

AGENT = f"learnae/{__version__}"
_EMPTY_DIGEST = bytes(16)
_HURRY = 0.2
_GREETERS = 8
_MILLISECOND = 0.001


class Heart:
    """Beats every few seconds, and at once when the state changes.

    Args:
        author: the own 32-byte public key.
        sign: makes an Ed25519 signature with the own private key.
        settings: time constants.
    """

    def __init__(self, author: bytes, sign: Callable[[bytes], bytes], settings: Settings) -> None:
        self.addresses: tuple[str, ...] = ()
        self.rate = 0.0
        """Samples per second."""
        self.last_update = 0.0
        """When the ledger last grew."""
        self._author = author
        self._sign = sign
        self._settings = settings
        self.next = 0.0
        """When to beat again."""
        self._last = -math.inf
        self._said = ""
        self._time = 0.0

    def shift(self, gap: float) -> None:
        """The clock has jumped by so many seconds."""
        self.next += gap
        self._last += gap
        self.last_update += gap

    def hurry(self, peer: bytes, connected: int, now: float) -> None:
        """This peer has come and should hear of somebody soon: where there are many, a few of them beat for it."""
        lot = int.from_bytes(bytes(a ^ b for a, b in zip(self._author[:4], peer[:4], strict=True)))
        if lot * connected >= _GREETERS * 2**32:
            return
        self.next = min(self.next, max(now + _HURRY, self._last + self._settings.heartbeat / 2))

    def due(self, state: str, now: float) -> bool:
        """Whether to beat now.

        While updates are coming in, our digest is one that nobody else has: we wait until they have, but not for long.
        """
        quiet = now - self.last_update >= self._settings.repair_grace
        late = now >= self.next + self._settings.heartbeat / 2
        return state != self._said or (now >= self.next and (quiet or late))

    def beat(
        self, state: str, genesis: Genesis | None, ledger: Ledger | None, cuts: Cuts, now: float
    ) -> PublishHeartbeat:
        """The heartbeat to publish now."""
        self._said = state
        self.next = now + self._settings.heartbeat
        self._last = now
        # Others ignore a heartbeat that is not newer than the last one: ours ascend even when the clock is set back.
        self._time = max(float(now), self._time + _MILLISECOND)
        message = Heartbeat(
            time=self._time,
            state=state,
            swarm=ledger.swarm if ledger is not None else None,
            layout=genesis.layout.fingerprint if genesis else None,
            digest=ledger.digest if ledger is not None else _EMPTY_DIGEST,
            updates=len(ledger) if ledger is not None else 0,
            rate=float(self.rate),
            settled=cuts.newest_settled(),
            cuts=cuts.attested(),
            floor=ledger.floor.index if ledger is not None and ledger.floor is not None else -1,
            addresses=self.addresses,
            agent=AGENT,
        )
        return PublishHeartbeat(seal(message, self._sign, self._author))
