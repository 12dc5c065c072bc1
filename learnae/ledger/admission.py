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
    FUTURE_SLOT = "future-slot"
    LATE = "late"
    STALE = "stale"
    OTHER_LINEAGE = "other-lineage"
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
    Refusal.CONFLICT: "the author signed two updates for one slot or under one number; the one with the smaller digest "
    "counts",
    Refusal.FUTURE_SLOT: "the update's slot has not begun: the author's clock, or this one, is wrong",
    Refusal.LATE: "the cut that the update would belong to is settled: it came too late",
    Refusal.STALE: "the author's weights stand on a cut that is too old, or on one that its slot does not follow",
    Refusal.OTHER_LINEAGE: "the author's weights stand on another history than the one that was settled here",
    Refusal.OVERSIZED: "the payload would be larger than the whole model",
    Refusal.CROWDED: "the ledger has no room for another author, or for another gap in an author's numbers",
    Refusal.BAD_BLOCK: "a peer answered with a block that is not the one asked for",
    Refusal.VOID: "the payload cannot be decoded, or exceeds the norm that it claims; it counts as zeros on every node",
    Refusal.OVERLOAD: "too many updates were waiting; it will come again through repair",
}
