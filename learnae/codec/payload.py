"""The parts of one update, decoded and checked as they come; used by the learner, which adds all of them or none."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from learnae.codec.norm import squared_norm
from learnae.codec.part import Part, decode_part
from learnae.errors import CodecError
from learnae.layout import Layout


class Payload:
    """Gathers the parts of an update for a model of this layout.

    ``exponents`` int32[chunks]: of each chunk's unit, as `chunk_exponents` gives them. ``claim``: the norm, in weight
    units, that the author says the update has; None checks nothing. Whether an update is void depends on its bytes and
    its claim alone, so it is void on every node. Holds some 9 bytes for each entry.
    """

    def __init__(self, layout: Layout, exponents: NDArray[np.int32], claim: float | None = None) -> None:
        self.parts: list[Part] = []
        self.void: str | None = None
        """Why the update adds nothing; None as long as it is sound."""
        self.square = Fraction(0)
        """The squared norm of what the parts add, exact, in weight units."""
        self._layout = layout
        self._exponents = exponents
        self._most = None if claim is None else Fraction(claim) ** 2
        self._next = 0

    def add(self, part: bytes) -> None:
        """Take the next part; one that is malformed or too much makes the whole update void."""
        if self.void is not None:
            return
        try:
            self._take(decode_part(self._layout, part))
        except CodecError as error:
            self.void = str(error)
            self.parts.clear()

    def _take(self, part: Part) -> None:
        # Entries of parts that overlap would add up to more than the sum of the squares says.
        if part.first < self._next:
            raise CodecError("the parts of an update cover a chunk twice, or are out of order")
        self._next = part.first + len(part.scales)
        self.square += squared_norm(part.scales, part.counts, self._exponents[part.first : self._next])
        if self._most is not None and self.square > self._most:
            raise CodecError("an update adds more than the norm that it claims")
        self.parts.append(part)
