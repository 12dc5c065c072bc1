"""The averaging coordinator: events in, actions out; the same code runs in the daemon and in the simulator."""

from learnae.coordinator.coordinator import Coordinator, CoordinatorStatistics
from learnae.coordinator.peers import Peer
from learnae.coordinator.settings import Settings

__all__ = ["Coordinator", "CoordinatorStatistics", "Peer", "Settings"]
