"""Why an update may be refused: each reason is counted in the metrics and explained in the user guide."""

from __future__ import annotations

from enum import StrEnum


class Refusal(StrEnum):
    """The named reasons; `meaning` says what a user should know."""

    MALFORMED = "malformed"
    BAD_SIGNATURE = "bad-signature"
    WRONG_SWARM = "wrong-swarm"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    SLOT_ORDER = "slot-order"
    FUTURE_SLOT = "future-slot"
    OVERSIZED = "oversized"
    CROWDED = "crowded"
    BAD_BLOCK = "bad-block"
    VOID = "void"
    OVERLOAD = "overload"

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return _MEANINGS[self]


_MEANINGS = {
    Refusal.MALFORMED: "the bytes break the wire format or one of its bounds",
    Refusal.BAD_SIGNATURE: "the message is not signed by the key that it names",
    Refusal.WRONG_SWARM: "the update belongs to another model or another start of it",
    Refusal.DUPLICATE: "the update is already in the ledger; harmless, messages may arrive more than once",
    Refusal.CONFLICT: "the author signed two different updates with one sequence number",
    Refusal.SLOT_ORDER: "the author's slots do not ascend with its sequence numbers: at most one update a slot",
    Refusal.FUTURE_SLOT: "the update's slot has not begun: the author's clock, or this one, is wrong",
    Refusal.OVERSIZED: "the payload would be larger than the whole model",
    Refusal.CROWDED: "the ledger has no room for another author, or for another gap in an author's numbers",
    Refusal.BAD_BLOCK: "a peer answered with a block that is not the one asked for",
    Refusal.VOID: "the payload cannot be decoded; the update counts as zeros on every node",
    Refusal.OVERLOAD: "too many updates were waiting; it will come again through repair",
}
