"""The ledger: the grow-only set of updates whose sum is the swarm's model; sans-IO, driven by the coordinator."""

from learnae.ledger.admission import Refusal
from learnae.ledger.entry import Applied, Entry, Kept
from learnae.ledger.ledger import Ledger, LedgerStatistics

__all__ = ["Applied", "Entry", "Kept", "Ledger", "LedgerStatistics", "Refusal"]
