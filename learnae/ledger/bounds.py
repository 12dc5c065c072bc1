"""How far one update may move the model: bounds from what the swarm's updates were like before; used by the ledger."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

from learnae.ledger.entry import Entry
from learnae.manifest import Interval
from learnae.rules import FULL, Rules
from learnae.vector import VersionVector


def summarise(index: int, entries: Iterable[Entry]) -> Interval:
    """What the updates of an interval, at least one, were like. Depends on the set alone, to the last bit."""
    return _summary(index, frozenset(entries))


@lru_cache(maxsize=32)
def _summary(index: int, known: frozenset[Entry]) -> Interval:
    """Wanted again and again as updates come to other intervals; the vector in it is not to be changed."""
    vector = VersionVector()
    for entry in known:
        vector.add(*entry.id)
    losses = [entry.loss for entry in known if entry.loss is not None]
    return Interval(
        index,
        vector,
        float(_median([entry.norm for entry in known if entry.norm > 0])),
        _median([entry.samples for entry in known]),
        math.fsum(losses) / len(losses) if losses else None,
    )


_Number = TypeVar("_Number", int, float)

_MOST_SAMPLES: Final = 16
"""Times the usual samples that an update may claim: PCs differ that much, and rounds last up to 16 slots."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What holds for the updates of one interval."""

    norm: float
    """Most that an update may move the model, in weight units."""
    share: float
    """Largest share with which it may count."""
    samples: float
    """Most samples that are believed to be behind it."""

    @classmethod
    def after(cls, past: Sequence[Interval], rules: Rules) -> Bounds:
        """The bounds that follow from these intervals; none without any.

        Medians of medians: whoever has less than half of the updates in most intervals cannot raise them above what
        honest updates have.
        """
        norm = _median([interval.norm for interval in past if interval.norm > 0])
        authors = max((len(interval.vector.authors) for interval in past), default=0)
        return cls(
            rules.clip * norm if norm else math.inf,
            rules.fair_share / authors if authors else math.inf,
            _MOST_SAMPLES * _median([interval.samples for interval in past]) or math.inf,
        )

    def ratio(self, entry: Entry) -> int:
        """By which part of itself the update counts, from 0 to `FULL`: exact, so equal on every machine.

        An update above the bound counts by the *square* of the quotient: it moves the model the less the more it
        exceeds. A plain clip would leave attackers with the full bound, and take from honest nodes that pull the model
        back, whose updates then are larger than usual, as much as from the attackers.
        """
        part = 1.0
        if entry.norm > self.norm:
            part = self.norm / entry.norm
            part *= part
        if entry.share > self.share:
            part = min(part, self.share / entry.share)
        return int(part * FULL)

    def counted(self, entry: Entry) -> int:
        """The samples that are believed to be behind the update."""
        return int(min(entry.samples, self.samples))


def _median(values: Sequence[_Number]) -> _Number:
    """The lower median; 0 of none."""
    return sorted(values)[(len(values) - 1) // 2] if values else 0
