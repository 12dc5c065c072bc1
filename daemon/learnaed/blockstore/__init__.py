"""Blocks of snapshots on disk: what is pinned or on its way stays, the rest is collected, and all of it has a bound."""

from learnaed.blockstore.lease import Lease
from learnaed.blockstore.pins import Pin
from learnaed.blockstore.store import MARGIN, BlockStore, BlockStoreStatistics, Collected, NoRoom

__all__ = ["MARGIN", "BlockStore", "BlockStoreStatistics", "Collected", "Lease", "NoRoom", "Pin"]
