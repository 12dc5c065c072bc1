"""When a finished node may leave: once the others have all that it knows; part of the coordinator."""

from __future__ import annotations

from dataclasses import dataclass, field

from learnae.coordinator.peers import Members
from learnae.coordinator.settings import Settings

SETTLING = "settling"


@dataclass(slots=True)
class Settling:
    """Watches the members of the swarm after this node's last round.

    If all of them are settling too, everybody waits until everybody's ledger is the same. If some go on training,
    it is enough that one of them holds all of this node's updates.
    """

    settings: Settings
    since: float
    slot_seconds: float
    confirmed: set[bytes] = field(default_factory=set)
    """Members which were seen to hold all our updates."""

    def verdict(self, members: Members, digest: bytes, now: float) -> str | None:
        """Why it is time to leave, or None to stay."""
        waited = now - self.since
        going_on = [peer for peer in members if peer.heartbeat is not None and peer.heartbeat.state != SETTLING]
        if not members and waited > self.settings.heartbeat:
            return "nobody else is here"
        if members and not going_on and all(p.heartbeat is not None and p.heartbeat.digest == digest for p in members):
            return "all members hold the same updates"
        # A member that is about to finish is worth waiting for; one that trains on is not.
        finishing = any(peer.heartbeat is not None and peer.heartbeat.state == "finishing" for peer in going_on)
        if not finishing and waited > self.settings.settle_linger and any(p.key in self.confirmed for p in going_on):
            return "a member that goes on holds all our updates"
        if waited > self.settings.settle_timeout + 2 * self.slot_seconds:
            return "waited long enough without confirmation"
        return None
