"""Snapshots of the swarm's weights on disk: served to peers and fetched from them, leaf by leaf."""

from learnaed.snapshots.download import Download, Progress
from learnaed.snapshots.shelf import MOST_BYTES, Shelf, check_fit

__all__ = ["MOST_BYTES", "Download", "Progress", "Shelf", "check_fit"]
