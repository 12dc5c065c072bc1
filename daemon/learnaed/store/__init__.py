"""What survives a restart: the updates of the ledger, their payloads and the peers once met, in one SQLite file."""

from learnaed.store.database import Kept, Store, StoreStatistics

__all__ = ["Kept", "Store", "StoreStatistics"]
