"""Which block of a session is asked of whom, and who is given up: without input, output or clock; used by `session`.

Every peer has a window of bytes that may be on their way from it. It grows while blocks come within half a second of
being asked for and shrinks when they take longer than a second, so a slower peer gets fewer wants. A block is asked of
one peer; only when nothing else is left to ask does an idle peer get a second want for a block that is late.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from learnae.cid import RAW, codec_of
from learnaed.network.bitswap.statistics import PeerStatistics
from learnaed.network.bitswap.wire import digest_of

TYPICAL_BLOCK: Final = 256 * 1024
"""How large a block of plain bytes is taken to be where nobody has promised its size."""
TYPICAL_NODE: Final = 16 * 1024
"""The same of other blocks, which hold links. They come first: what they are says nothing about the leaves."""
FIRST_WINDOW: Final = 4 * TYPICAL_BLOCK
MAX_WINDOW: Final = 8 * 1024 * 1024
QUICK: Final = 0.5
LATE: Final = 1.0
FORGET_ABSENCE: Final = 10.0
"""Seconds after which a peer that lacked a block is asked for it again: it may be fetching it itself."""
SUSPENDED: Final = 5.0
"""Seconds between two looks at the clock after which nobody is called slow."""
MAX_ABSENT: Final = 64
"""Absent blocks after which a peer is left alone for `FORGET_ABSENCE`."""


class Drop(StrEnum):
    """Why a peer is not asked any more."""

    LIED = "sent blocks that nobody had asked for, or forged ones"
    GARBAGE = "sent messages that cannot be read"
    SLOW = "gave too few bytes per second"
    STALLED = "sent bytes, but no block that it was asked for"
    REFUSED = "does not speak Bitswap"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session puts up with.

    Attributes:
        held: bytes that may be on their way or wait for the caller, all peers together. Less than `FIRST_WINDOW` for
            each peer leaves peers idle; more is memory.
        slowest: bytes per second below which a peer is dropped.
        grace: seconds over which `slowest` is measured.
        stalled: seconds that a peer may go on without finishing a block, at whatever speed.
        lies: blocks nobody asked for, by which a peer is dropped.
        patience: seconds without any block after which the session fails.
    """

    held: int = 16 * 1024 * 1024
    slowest: float = 16 * 1024
    grace: float = 10.0
    stalled: float = 120.0
    lies: int = 3
    patience: float = 60.0


@dataclass(slots=True)
class _Donor:
    connected: bool
    window: float = FIRST_WINDOW
    filling: bool = True
    """Is given wants. A full window is first left to drain to a half: wants then travel in few messages."""
    asked: dict[bytes, float] = field(default_factory=dict)
    coming: int = 0
    """Bytes that it is asked for."""
    absent: dict[bytes, float] = field(default_factory=dict)
    resting: float = 0.0
    measured_from: float = 0.0
    measured: int = 0
    last_block: float = 0.0
    blocks: int = 0
    bytes: int = 0
    unwanted: int = 0
    busy: float = 0.0
    busy_since: float = 0.0


@dataclass(slots=True)
class Orders:
    """What to tell one peer: CIDs that it shall send, and CIDs that it need not send any more."""

    wants: list[bytes] = field(default_factory=list)
    cancels: list[bytes] = field(default_factory=list)


class Schedule:
    """The state of one session. Times are seconds of any clock that does not go back."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._donors: dict[str, _Donor] = {}
        self._wanted: dict[bytes, bytes] = {}
        self._sizes: dict[bytes, int] = {}
        """Bytes that each wanted block has, as far as can be told."""
        self._free: OrderedDict[bytes, None] = OrderedDict()
        self._asked_of: dict[bytes, list[str]] = {}
        self._orders: dict[str, Orders] = {}
        self._held = 0
        self._coming = 0
        self._ticked = now
        self.dropped: dict[str, Drop] = {}
        self.last_block = now
        self.blocks = self.bytes = self.duplicates = 0

    # --- what the caller wants

    @property
    def wanted(self) -> int:
        """Blocks still to come."""
        return len(self._wanted)

    @property
    def held(self) -> int:
        """Bytes that have come and were not taken."""
        return self._held

    def want(self, cids: Iterable[bytes], now: float, sizes: Mapping[bytes, int] | None = None) -> None:
        """Ask for blocks, in this order; those that are wanted already are not wanted twice. `sizes` are those that
        are known beforehand.

        Raises:
            ValueError: not a CIDv1 (raw, dag-pb or dag-cbor) with SHA-256.
        """
        if not self._wanted:
            self.last_block = now
        for cid in cids:
            digest = digest_of(cid)
            if digest is None:
                raise ValueError(f"not a CID that Bitswap can fetch here: {cid.hex()[:80]}")
            if digest not in self._wanted:
                self._wanted[digest] = cid
                typical = TYPICAL_BLOCK if codec_of(cid) == RAW else TYPICAL_NODE
                self._sizes[digest] = (sizes or {}).get(cid, typical)
                self._free[digest] = None
        self._assign(now)

    def taken(self, size: int, now: float) -> None:
        """The caller took a block of this size."""
        self._held -= size
        self._assign(now)

    def close(self) -> None:
        """Cancel everything."""
        for digest, cid in self._wanted.items():
            self._release(digest, cid, keep=None)
        self._wanted.clear()
        self._sizes.clear()
        self._free.clear()

    # --- peers

    def add(self, peer: str, connected: bool, now: float) -> None:
        """Take a peer in. One that was dropped stays out."""
        if peer not in self._donors and peer not in self.dropped:
            self._donors[peer] = _Donor(connected)
            self._assign(now)

    def remove(self, peer: str, now: float) -> None:
        """Ask this peer no more."""
        self._withdraw(peer)
        self._donors.pop(peer, None)
        self._assign(now)

    def drop(self, peer: str, reason: Drop, now: float) -> None:
        """Give a peer up for good."""
        if peer in self._donors:
            self.dropped[peer] = reason
            self.remove(peer, now)

    def connection(self, peer: str, connected: bool, now: float) -> None:
        """A peer was lost, or is back: what it was asked is free for others, or it takes its part again."""
        donor = self._donors.get(peer)
        if donor is None:
            return
        if not connected:
            self._withdraw(peer)
            self._orders.pop(peer, None)
            donor.window = FIRST_WINDOW
        donor.connected = connected
        donor.absent.clear()
        donor.resting = 0.0
        self._assign(now)

    def has(self, peer: str) -> bool:
        """Whether this peer takes part."""
        return peer in self._donors

    def wants(self, digest: bytes) -> bool:
        """Whether this block is still to come."""
        return digest in self._wanted

    @property
    def hopeless(self) -> bool:
        """Whether nobody is left who might give anything: all were given up, or are here and lack all of it."""
        return bool(self._wanted) and all(
            donor.connected and not donor.asked and self._free.keys() <= donor.absent.keys()
            for donor in self._donors.values()
        )

    def outstanding(self, peer: str) -> list[bytes]:
        """The CIDs that this peer is asked for."""
        donor = self._donors.get(peer)
        return [self._wanted[digest] for digest in donor.asked] if donor else []

    # --- what peers say

    def progress(self, peer: str, size: int) -> None:
        """Bytes came from this peer, of whatever."""
        donor = self._donors.get(peer)
        if donor is not None:
            donor.measured += size

    def block(self, peer: str, digest: bytes, size: int, now: float) -> bytes | None:
        """A block came, verified: the CID that it was wanted by, or None if it is not wanted (any more)."""
        donor = self._donors.get(peer)
        asked = donor.asked.get(digest) if donor else None
        cid = self._wanted.pop(digest, None)
        if cid is None:
            self.duplicates += 1
            return None
        if donor is not None:
            donor.blocks += 1
            donor.bytes += size
            donor.last_block = now
            if asked is not None:
                self._adapt(donor, size, now - asked)
        self._release(digest, cid, keep=peer, now=now)
        self._free.pop(digest, None)
        del self._sizes[digest]
        self._held += size
        self.blocks += 1
        self.bytes += size
        self.last_block = now
        self._assign(now)
        return cid

    def lacks(self, peer: str, digest: bytes, now: float) -> None:
        """The peer does not have a block."""
        donor = self._donors.get(peer)
        if donor is None or digest not in donor.asked:
            return
        self._take_back(peer, digest, now)
        self._orders.setdefault(peer, Orders()).cancels.append(self._wanted[digest])  # it need not remember
        donor.absent[digest] = now
        if len(donor.absent) >= MAX_ABSENT:
            donor.absent.clear()
            donor.resting = now + FORGET_ABSENCE
        self._assign(now)

    def unwanted(self, peer: str, now: float) -> None:
        """The peer sent a block that it was never asked for."""
        donor = self._donors.get(peer)
        if donor is not None:
            donor.unwanted += 1
            if donor.unwanted >= self._limits.lies:
                self.drop(peer, Drop.LIED, now)

    # --- time

    def tick(self, now: float) -> None:
        """Look who is too slow and what is late; at least once a second."""
        slept = now - self._ticked > SUSPENDED
        self._ticked = now
        for peer, donor in list(self._donors.items()):
            for digest in [digest for digest, since in donor.absent.items() if now - since >= FORGET_ABSENCE]:
                del donor.absent[digest]
            if not donor.asked:
                continue
            if slept:  # the PC was suspended, or the own host down: the silence says nothing about the peer
                self._measure_anew(donor, now)
                continue
            elapsed = now - donor.measured_from
            if now - donor.last_block >= self._limits.stalled:
                self.drop(peer, Drop.STALLED, now)
            elif elapsed >= self._limits.grace:
                oldest = next(iter(donor.asked.values()))  # a peer that answers at once may be asked for little
                if donor.measured < elapsed * self._limits.slowest and now - oldest >= self._limits.grace / 2:
                    self.drop(peer, Drop.SLOW, now)
                else:
                    donor.measured_from, donor.measured = now, 0
        self._assign(now)

    def orders(self) -> dict[str, Orders]:
        """What has to be sent since the last call."""
        orders, self._orders = self._orders, {}
        return orders

    def peers(self, now: float) -> dict[str, PeerStatistics]:
        """Figures of everybody who is not dropped."""
        shown = {}
        for peer, donor in self._donors.items():
            busy = donor.busy + (now - donor.busy_since if donor.asked else 0.0)
            speed = donor.bytes / busy if busy else 0.0
            shown[peer] = PeerStatistics(
                donor.connected, donor.blocks, donor.bytes, len(donor.asked), speed, donor.unwanted
            )
        return shown

    # --- inside

    def _adapt(self, donor: _Donor, size: int, latency: float) -> None:
        if latency < QUICK:
            donor.window = min(MAX_WINDOW, donor.window + size)
        elif latency > LATE:
            donor.window = max(2 * TYPICAL_BLOCK, donor.window - size)

    def _assign(self, now: float) -> None:
        """Ask for whatever is free, the least occupied peer first; late blocks twice when nothing is free."""
        able = [peer for peer, donor in self._donors.items() if donor.connected and donor.resting <= now]
        share = self._limits.held / max(1, len(able))
        while self._wanted:
            best = None
            for peer in able:
                donor = self._donors[peer]
                digest = self._pick(donor, now)
                if digest is None:
                    continue
                window = min(donor.window, share)
                occupied = (donor.coming + self._sizes[digest]) / window
                donor.filling = not donor.asked or occupied <= (1.0 if donor.filling else 0.5)
                if donor.filling and (best is None or occupied < best[0]):
                    best = occupied, peer, digest
            if best is None:
                break
            expected = self._held + self._coming
            if expected and expected + self._sizes[best[2]] > self._limits.held:
                break
            self._ask(best[1], best[2], now)

    def _pick(self, donor: _Donor, now: float) -> bytes | None:
        for digest in self._free:  # it passes over `MAX_ABSENT` at most
            if digest not in donor.absent:
                return digest
        if donor.asked:
            return None
        for digest, peers in self._asked_of.items():
            if len(peers) == 1 and digest not in donor.absent:
                since = self._donors[peers[0]].asked[digest]
                if now - since >= LATE:
                    return digest
        return None

    def _ask(self, peer: str, digest: bytes, now: float) -> None:
        donor = self._donors[peer]
        if not donor.asked:
            self._measure_anew(donor, now)
            donor.busy_since = now
        donor.asked[digest] = now
        donor.coming += self._sizes[digest]
        self._coming += self._sizes[digest]
        self._free.pop(digest, None)
        self._asked_of.setdefault(digest, []).append(peer)
        self._orders.setdefault(peer, Orders()).wants.append(self._wanted[digest])

    def _measure_anew(self, donor: _Donor, now: float) -> None:
        donor.measured_from = donor.last_block = now
        donor.measured = 0

    def _release(self, digest: bytes, cid: bytes, keep: str | None, now: float | None = None) -> None:
        """Nobody need send this block any more; all but `keep` are told so."""
        for peer in self._asked_of.pop(digest, ()):
            donor = self._donors[peer]
            self._answered(donor, digest, now)
            unsent = self._orders[peer].wants if peer in self._orders else []
            if cid in unsent:
                unsent.remove(cid)
            elif peer != keep:
                self._orders.setdefault(peer, Orders()).cancels.append(cid)

    def _answered(self, donor: _Donor, digest: bytes, now: float | None) -> None:
        del donor.asked[digest]
        donor.coming -= self._sizes[digest]
        self._coming -= self._sizes[digest]
        if not donor.asked and now is not None:
            donor.busy += now - donor.busy_since

    def _take_back(self, peer: str, digest: bytes, now: float | None = None) -> None:
        self._answered(self._donors[peer], digest, now)
        peers = self._asked_of[digest]
        peers.remove(peer)
        if not peers:
            del self._asked_of[digest]
            self._free[digest] = None
            self._free.move_to_end(digest, last=False)

    def _withdraw(self, peer: str) -> None:
        """Take back everything that this peer was asked."""
        donor = self._donors.get(peer)
        if donor is None:
            return
        orders = self._orders.setdefault(peer, Orders())
        orders.wants.clear()
        for digest in reversed(list(donor.asked)):
            orders.cancels.append(self._wanted[digest])
            self._take_back(peer, digest)
