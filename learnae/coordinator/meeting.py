"""Comparing notes with another node: who lacks what, who trains something else; part of the coordinator."""

from __future__ import annotations

from learnae.coordinator.actions import Action, AskGenesis
from learnae.coordinator.memory import Memory
from learnae.coordinator.peers import Peer


class Meeting:
    """Looks at what a peer says it holds and trains."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def compare(self, peer: Peer, now: float, *, afresh: bool = False) -> list[Action]:
        """What the last heartbeat of a peer gives reason for; `afresh` if the own swarm is another one now."""
        memory, beat = self._memory, peer.heartbeat
        if afresh:
            peer.compared = None
        # Whom we are not connected to cannot be asked; those in between will have it sooner.
        if beat is None or memory.ledger is None or beat.swarm is None or not peer.can_be_asked(now):
            return []
        if beat.swarm != peer.compared:
            peer.compared, peer.differences, peer.asked_genesis = beat.swarm, [], -1e9
        if beat.swarm == memory.ledger.swarm:
            memory.repair.compare(peer.key, beat.digest, beat.updates, now)
        elif now - peer.asked_genesis > 5 * memory.settings.retry and not peer.differences:
            peer.asked_genesis = now
            return [AskGenesis(peer.key)]
        return []
