"""A member that breaks the rules: forks, lies about cuts, exaggerates, holds back; used by the schedules."""

from __future__ import annotations

from nacl.signing import SigningKey

from learnae import wire
from learnae.cid import raw_cid
from learnae.coordinator import events
from learnae.wire import CutId, Heartbeat, Update, open_envelope, seal
from tests.core.swarm import Node, Swarm


class Adversary:
    """Signs what it likes with a key of its own, and sends it to whom it likes."""

    def __init__(self, swarm: Swarm, number: int = 666) -> None:
        self.swarm = swarm
        key = SigningKey(number.to_bytes(32))
        self.author, self._sign = bytes(key.verify_key), wire.signer(key)
        self._seq = 0
        self.held: list[bytes] = []
        self._smallest: dict[int, bytes] = {}

    def _nodes(self) -> list[Node]:
        return [node for node in self.swarm.nodes.values() if node.coordinator.ledger is not None]

    def _update(self, *, seq: int, slot: int, norm: float = 0.1, share: float = 0.1, payload: bytes = b"x") -> bytes:
        node = self._nodes()[0]
        ledger = node.coordinator.ledger
        assert ledger is not None
        settled = node.coordinator.statistics(node.now()).cuts
        base = settled.settled if settled is not None else None
        return seal(Update(ledger.swarm, seq, slot, base, 1, share, norm, None, payload, ()), self._sign, self.author)

    def _send(self, envelope: bytes, nodes: list[Node]) -> None:
        for node in nodes:
            node.handle(events.UpdateHeard(envelope, self.author))

    @property
    def _slot(self) -> int:
        return int(self.swarm.now)

    def fork(self, *, same_number: bool) -> None:
        """Two updates for one slot, or under one number, each to one half of the nodes."""
        nodes = self._nodes()
        if not nodes:
            return
        self._seq += 2
        first = self._update(seq=self._seq, slot=self._slot, payload=b"one")
        second = (
            self._update(seq=self._seq, slot=self._slot - 1, payload=b"two")
            if same_number
            else self._update(seq=self._seq + 1, slot=self._slot, payload=b"two")
        )
        half = len(nodes) // 2
        self._send(first, nodes[:half])
        self._send(second, nodes[half:])

    def replace(self) -> None:
        """Of one of the last slots, another update with a smaller digest than the last one; to some of the nodes."""
        nodes = self._nodes()
        if not nodes:
            return
        slot = self._slot - self.swarm.random.randrange(8)
        best = self._smallest.get(slot, b"\xff" * 32)
        for number in range(20):
            self._seq += 1
            envelope = self._update(seq=self._seq, slot=slot, payload=number.to_bytes(2))
            digest = open_envelope(Update, envelope).digest
            if digest < best:
                self._smallest[slot] = digest
                self._send(envelope, self.swarm.random.sample(nodes, self.swarm.random.randint(1, len(nodes))))
                return

    def exaggerate(self) -> None:
        """An update with an enormous norm and share."""
        if nodes := self._nodes():
            self._seq += 1
            self._send(self._update(seq=self._seq, slot=self._slot, norm=1e6, share=1.0), nodes)

    def hold_back(self) -> None:
        """Sign an update and keep it."""
        if self._nodes():
            self._seq += 1
            self.held.append(self._update(seq=self._seq, slot=self._slot))

    def release(self) -> None:
        """Send what was kept to a single node."""
        if nodes := self._nodes():
            for envelope in self.held:
                self._send(envelope, [self.swarm.random.choice(nodes)])
            self.held.clear()

    def lie_about_cuts(self, index: int) -> None:
        """Attest, as settled and as taken, cuts that nobody else has; claim to be far ahead."""
        nodes = self._nodes()
        if not nodes:
            return
        ledger = nodes[0].coordinator.ledger
        assert ledger is not None
        at = ledger.rules.interval(self._slot) - index
        cut = CutId(max(at, 0), raw_cid(self.swarm.random.randbytes(8)))
        beat = Heartbeat(
            *(self.swarm.now, "training", ledger.swarm, None, self.swarm.random.randbytes(16), 10**6, 1e9),
            *((cut,), (cut,), max(at - 1, -1), (), "liar"),
        )
        for node in nodes:
            node.handle(events.HeartbeatHeard(seal(beat, self._sign, self.author), self.author))
