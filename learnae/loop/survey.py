"""`Survey`: the digest of a replica and its alarms, found bit by bit between steps; used by `LiveWeights`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from learnae.loop.flat import Slice
from learnae.replica import Replica, alarming


class Survey:
    """What `Replica.digest` and `Replica.alarms` say; complete once `work`, over these slices of it, has ended."""

    def __init__(self, replica: Replica, slices: Sequence[Slice]) -> None:
        self.digest = b""
        self.alarms: list[str] = []
        self._replica = replica
        self._slices = slices

    def work(self) -> Iterator[None]:
        """Slice by slice; the replica is not to change meanwhile."""
        replica, found = self._replica, hashlib.sha256()
        alarmed: set[int] = set()
        for piece in self._slices:
            here = replica.weights[piece.start : piece.stop]
            found.update(here.astype("<i4", copy=False).data)
            if alarming(here):
                alarmed.add(piece.tensor)
            yield
        self.digest = found.digest()
        self.alarms = [replica.layout.tensors[number].name for number in sorted(alarmed)]
