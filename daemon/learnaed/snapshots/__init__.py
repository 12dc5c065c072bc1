"""Snapshots of the swarm's weights on disk: served to peers and fetched from them, block by block."""

from learnaed.snapshots.download import Download, Progress
from learnaed.snapshots.shelf import Shelf, check_fit

__all__ = ["Download", "Progress", "Shelf", "check_fit"]
