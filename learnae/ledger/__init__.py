"""The ledger: the grow-only set of updates whose sum is the swarm's model; sans-IO, driven by the coordinator."""

from learnae.ledger.admission import Refusal
from learnae.ledger.ledger import Entry, Ledger, LedgerStatistics

__all__ = ["Entry", "Ledger", "LedgerStatistics", "Refusal"]
