"""What is equal for all nodes and made only once: opened envelopes, decoded payloads, snapshots' names.

Nothing here knows who asks. Each function gives what a node would have worked out by itself from the same bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, TypeVar

from learnae import snapshot, wire
from learnae.cid import raw_cid
from learnae.codec import Payload
from learnae.ledger import Applied, Entry
from learnae.replica import Replica
from learnae.unixfs import Child
from learnae.wire import Message, Signed
from netsim.crew import Trainer

K = TypeVar("K")
V = TypeVar("V")
M = TypeVar("M", bound=Message)


class Latest(OrderedDict[K, V]):
    """What was made last, up to a number of things."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def of(self, key: K, make: Callable[[], V]) -> V:
        """The value of this key, made if it is not here."""
        value = self.get(key)
        if value is None:
            value = self[key] = make()
            self.forget()
        return value

    def forget(self) -> None:
        """What was made longest ago, if these are too many."""
        if len(self) > self._most:
            self.popitem(last=False)


class Shared:
    """One for a run."""

    def __init__(self) -> None:
        self._opened: Latest[bytes, Signed[Any]] = Latest(8192)
        self._payloads: Latest[tuple[bytes, float], Payload] = Latest(4096)
        self._roots: Latest[bytes, Child] = Latest(64)
        self._replicas: Latest[bytes, Replica] = Latest(32)

    def open(self, kind: type[M], data: bytes) -> Signed[M]:
        """`learnae.wire.open_envelope`; what is refused is refused each time anew."""
        signed = self._opened.get(data)
        if signed is None:
            signed = self._opened[data] = wire.open_envelope(kind, data)
            self._opened.forget()
        return signed if type(signed.message) is kind else wire.open_envelope(kind, data)

    def payload(
        self, trainer: Trainer, digest: bytes, claim: float, parts: Callable[[bytes], Iterable[bytes]]
    ) -> Payload:
        """An update's payload; `parts` finds its bytes."""
        known = self._payloads.get((digest, claim))
        if known is None:
            known = self._payloads[digest, claim] = trainer.payload(claim, parts(digest))
            self._payloads.forget()
        return known

    def root(self, replica: Replica) -> Child:
        """The root of the snapshot of this replica."""
        return self._roots.of(replica.digest(), lambda: snapshot.root_of(replica.pieces()))

    def kept(self, cid: bytes, replica: Replica) -> Replica:
        """This replica, or the equal one that another node keeps."""
        return self._replicas.of(cid, lambda: replica)


@lru_cache(maxsize=65_536)
def applied(author: bytes, seq: int, digest: bytes, slot: int, ratio: int) -> Applied:
    """A line of a trainer's books."""
    return Applied(author, seq, digest, slot, ratio)


@lru_cache(maxsize=1024)
def block(data: bytes) -> bytes:
    """The CID of a block."""
    return raw_cid(data)


def line(entry: Entry, ratio: int) -> Applied:
    """The line of this update, counted so."""
    return applied(entry.author, entry.seq, entry.digest, entry.slot, ratio)
