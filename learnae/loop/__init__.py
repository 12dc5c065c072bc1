"""The user's own training loop as a trainer: `join` attaches a script to a daemon on this PC; it is `learnae.join`."""

from learnae.loop.joining import join
from learnae.loop.statistics import SwarmStatistics
from learnae.loop.swarm import Swarm

__all__ = ["Swarm", "SwarmStatistics", "join"]
