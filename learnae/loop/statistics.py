"""`SwarmStatistics`: what a script is told of its own part."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SwarmStatistics:
    """How this script's part in the swarm goes.

    ``attached``: a daemon is there. ``mode``: "train", "pause", "finish" or, without a daemon, "alone". ``rounds``,
    ``steps``, ``samples``: own work. ``samples_seen``: the samples behind the swarm's weights. ``applied``, ``void``:
    updates in the replica, and those that could not be decoded. ``share``: the weight of this node's rounds.
    ``dropped``: own rounds that were given up for numbers that are not finite. ``merging``: seconds spent in `step`,
    but for waiting; ``longest``: the longest that one step took of it. ``headroom``: the part of its range that is free
    in the replica's fullest tensor.
    """

    attached: bool
    mode: str
    rounds: int
    steps: int
    samples: int
    samples_seen: int
    applied: int
    void: int
    share: float
    dropped: int
    merging: float
    longest: float
    headroom: float
