"""What survives a restart: updates, payloads, manifests of cuts and the peers once met, in one SQLite file."""

from learnaed.store.database import DamagedStore, IncompleteUpdate
from learnaed.store.recovery import open_store, set_aside
from learnaed.store.store import Change, Store, StoreStatistics

__all__ = ["Change", "DamagedStore", "IncompleteUpdate", "Store", "StoreStatistics", "open_store", "set_aside"]
