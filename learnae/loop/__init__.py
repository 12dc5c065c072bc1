"""The user's own training loop as a trainer: `join` attaches a script to a daemon on this PC; it is `learnae.join`."""

from learnae.loop.joining import join
from learnae.loop.swarm import Swarm, SwarmStatistics

__all__ = ["Swarm", "SwarmStatistics", "join"]
