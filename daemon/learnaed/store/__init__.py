"""What survives a restart: the updates of the ledger, their payloads and the peers once met, in one SQLite file."""

from learnaed.store.database import Store, StoreStatistics

__all__ = ["Store", "StoreStatistics"]
