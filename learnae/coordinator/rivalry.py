"""Slows down authors who replace their own updates again and again; part of the coordinator.

Of two updates for one slot the smaller digest counts, so all nodes end with the same one, whichever came first. An
author could use that to keep a cut from settling: with ever smaller digests, each of which changes the set. So every
replacement makes the next one of the same author wait longer: the swarm settles in the pauses.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Record:
    replaced: int = 0
    until: float = 0.0


class Rivalry:
    """Counts the replacements of each author in intervals whose cut is due.

    Args:
        pause: seconds after the first replacement, doubled with each further one.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._records: dict[bytes, _Record] = {}

    def restrains(self, author: bytes, now: float) -> bool:
        """Whether this author may not replace an update yet."""
        record = self._records.get(author)
        return record is not None and now < record.until

    def replaced(self, author: bytes, longest: float, now: float) -> None:
        """It has replaced one; the pause is at most `longest` seconds, in which honest nodes agree and settle."""
        record = self._records.setdefault(author, _Record())
        record.until = now + min(self._pause * 2.0**record.replaced, longest)
        record.replaced = min(record.replaced + 1, 64)
        # Who has kept quiet for long begins anew, and needs no record.
        self._records = {key: r for key, r in self._records.items() if now < r.until + 10 * longest}

    def shift(self, gap: float) -> None:
        """The clock has jumped by so many seconds."""
        for record in self._records.values():
            record.until += gap
