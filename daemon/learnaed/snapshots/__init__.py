"""Snapshots of the swarm's weights on disk: served to peers and fetched from them, block by block."""

from learnaed.snapshots.archive import Archive
from learnaed.snapshots.catalogue import Catalogue
from learnaed.snapshots.download import Download, Progress
from learnaed.snapshots.finder import Finder
from learnaed.snapshots.importing import Imported, Importer
from learnaed.snapshots.keeper import Keeper
from learnaed.snapshots.receiver import Receiver
from learnaed.snapshots.shelf import CUT, LARGEST_HEADER, Shelf, check_fit

__all__ = [
    "CUT",
    "LARGEST_HEADER",
    "Archive",
    "Catalogue",
    "Download",
    "Finder",
    "Imported",
    "Importer",
    "Keeper",
    "Progress",
    "Receiver",
    "Shelf",
    "check_fit",
]
