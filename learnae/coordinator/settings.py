"""The coordinator's time constants, in seconds; the simulator varies them to find good ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults suit a LAN and home links alike."""

    heartbeat: float = 2.0
    """Between two heartbeats. Shorter repairs losses sooner and costs about 0.3 kB each, to every peer."""
    glance: float = 0.1
    """Messages may come in hundreds a second: what follows from them is looked at no more often than this. Longer saves
    work in swarms of hundreds, and answers later."""
    expiry: float = 8.0
    """Without a heartbeat for so long a peer no longer counts. Longer waits in vain for who has crashed."""
    join_wait: float = 3.0
    """How long a new node listens for others before it starts to train alone."""
    repair_grace: float = 0.5
    """How long an update may be on its way before it counts as lost."""
    retry: float = 2.0
    """Before a failed exchange is tried again with the same peer."""
    slow: float = 1.0
    """After so long without an answer the same is asked of another peer too."""
    settle_linger: float = 4.0
    """How long a finished node stays when others go on: those that finish at the same time are heard of by then."""
    settle_timeout: float = 20.0
    """A finished node leaves after so long, and two slots, even when nobody confirms that its updates arrived."""
    parallel: int = 4
    """Most exchanges of each kind at a time."""
    pending: int = 1024
    """Most updates whose payload is still to be fetched."""
    pending_of_one: int = 64
    """Most of them by one author."""
    cut_grace: float = 3.0
    """How long after an interval, and at least two slots, its cut is taken: most updates have arrived by then."""
    freeze: float = 10.0
    """How long, and at least four slots, nodes that hold different cuts exchange updates before the cut with most
    votes is taken for good. Longer joins more of what both sides of a partition did; shorter settles sooner."""
    patience: float = 2.0
    """How long another history must look heavier before this node goes over to it."""
    ban: float = 600.0
    """For so long a peer that has answered three times with something else is asked for nothing."""
    hopeless: float = 60.0
    """After so long without the manifest or a holder of a cut to go over to, another one is looked for."""
