"""What to pin and unpin on the IPFS node next, and when to try again: a state machine; driven by `IpfsPinning`.

It reads no clock and opens no socket. The queue is not stored: it follows from what is wanted, from the book of our own
pins, and from what the node says that it has pinned.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FIRST_RETRY = 2.0
LAST_RETRY = 600.0
LOOK_AGAIN = 60.0
REFRESH = 600.0


class State(StrEnum):
    """How it stands between us and the IPFS node."""

    ABSENT = "absent"
    """None was named, and none is found."""
    CONNECTING = "connecting"
    IMPORTING = "importing"
    """Pins are made or removed."""
    OK = "ok"
    """It has what it should have."""
    FAILING = "failing"
    """It is away, or refuses; tried again and again."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Find the node and see who it is."""


@dataclass(frozen=True, slots=True)
class Pin:
    """Make sure that the node has the blocks and a pin."""

    root: bytes
    recursive: bool


@dataclass(frozen=True, slots=True)
class Unpin:
    """Remove a pin of ours."""

    root: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until then, unless `Pinner.want` is called."""

    until: float


Job = Connect | Pin | Unpin

HOPELESS: Final = 10
"""Tries after which roots that cannot be pinned, a damaged one for instance, no longer keep old pins from going."""


class Pinner:
    """Carry out `next`, report how it went, and so on; one job at a time.

    New pins are made before old ones are removed, and only pins in the book are removed. A root that fails goes to the
    end of the queue, so that it does not keep others from their turn.

    Args:
        notify: tells the user, with a level: once when the node is lost, once when it is back.
        seed: of the jitter between retries.
    """

    def __init__(self, notify: Callable[[str, str], None], seed: int | None = None) -> None:
        self.state = State.CONNECTING
        self.why = ""
        """Of the last failure, until all is done again."""
        self.failures = 0
        """Since all was done."""
        self._notify = notify
        self._random = random.Random(seed)
        self._wanted: dict[bytes, bool] | None = None
        self._own: dict[bytes, None] = {}  # in the order in which they go
        self._held: set[bytes] = set()
        self._tried: dict[bytes, int] = {}
        self._connected = False
        self._name = ""
        self._lost = False
        self._due = 0.0

    @property
    def queue(self) -> int:
        """Pins to be made or removed, as far as known."""
        if self._wanted is None:
            return 0
        return len(self._wanted.keys() - self._held) + len(self._own.keys() - self._wanted.keys())

    @property
    def own(self) -> int:
        """Pins on the node that we made."""
        return len(self._own)

    def want(self, roots: Iterable[bytes], direct: Iterable[bytes] = ()) -> None:
        """What shall be pinned from now on, the most important first; our other pins go once that is done.

        Args:
            roots: pinned with all that they link to.
            direct: pinned as single blocks.
        """
        self._wanted = dict.fromkeys(roots, True)
        for root in direct:
            self._wanted.setdefault(root, False)
        self._held &= self._wanted.keys()
        concerned = self._wanted.keys() | self._own.keys()
        self._tried = {root: count for root, count in self._tried.items() if root in concerned}

    def next(self, now: float) -> Job | Wait:
        """What to do. Before the first call of `want` nothing is, so that a restart removes nothing."""
        if self._wanted is None:
            return Wait(float("inf"))
        if now < self._due and not (self.state is State.OK and self.queue):
            return Wait(self._due)
        if self.state is State.OK and now >= self._due:
            self._connected = False
        self._due = 0.0
        if not self._connected:
            self.state = State.CONNECTING
            return Connect()
        if job := self._todo(self._wanted):
            self.state = State.IMPORTING
            return job
        self._all_done()
        self.state = State.OK
        self._due = now + REFRESH
        return Wait(self._due)

    def _todo(self, wanted: Mapping[bytes, bool]) -> Job | None:
        def tried(root: bytes) -> int:
            return self._tried.get(root, 0)

        missing = sorted((root for root in wanted if root not in self._held), key=tried)
        old = sorted((root for root in self._own if root not in wanted), key=tried)
        hopeless = bool(missing) and tried(missing[0]) >= HOPELESS
        if old and (not missing or (hopeless and tried(old[0]) <= tried(missing[0]))):
            return Unpin(old[0])
        return Pin(missing[0], wanted[missing[0]]) if missing else None

    def absent(self, now: float) -> None:
        """`Connect` found none, where none was named."""
        if self._name and not self._lost:
            self._lost = True
            self._notify("warning", f"{self._name} is gone: snapshots wait for it, training goes on")
        self._connected = False
        self.state = State.ABSENT
        self._due = now + LOOK_AGAIN * self._random.uniform(0.5, 1.0)

    def connected(self, name: str, own: Iterable[bytes]) -> None:
        """`Connect` worked.

        Args:
            name: of the node, for people.
            own: our pins on it, by the book.
        """
        if name != self._name:
            self._notify("info", f"snapshots are pinned to {name} too")
        self._name = name
        self._connected = True
        self._own = dict.fromkeys(own)
        self._held.clear()

    def pinned(self, job: Pin, own: bool) -> None:
        """It is pinned; by us, or by the user before us."""
        if self._wanted is not None and job.root in self._wanted:
            self._held.add(job.root)
        if own:
            self._own[job.root] = None

    def unpinned(self, job: Unpin) -> None:
        """That pin is gone."""
        self._own.pop(job.root, None)

    def failed(self, job: Job, why: str, now: float) -> None:
        """It did not work: try again later, later each time."""
        self.failures += 1
        self.why = why
        self.state = State.FAILING
        if not isinstance(job, Connect):
            self._tried[job.root] = self._tried.get(job.root, 0) + 1
        if not self._lost:
            self._lost = True
            self._notify("warning", f"{why}. Snapshots wait to be pinned there; trying again, training goes on")
        self._connected = False
        delay = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(self.failures - 1, 20))
        self._due = now + delay * self._random.uniform(0.5, 1.0)

    def _all_done(self) -> None:
        self.failures = 0
        self.why = ""
        if self._lost:
            self._lost = False
            self._notify("info", f"{self._name} is back: snapshots are pinned again")
