"""Snapshots of the swarm's weights on disk: served to peers and fetched from them, leaf by leaf."""

from learnaed.snapshots.download import Download, Progress
from learnaed.snapshots.shelf import Shelf

__all__ = ["Download", "Progress", "Shelf"]
