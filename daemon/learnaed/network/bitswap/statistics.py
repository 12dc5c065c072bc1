"""What Bitswap asks of a store of blocks, and the figures that it shows; used by the rest of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class BlockSource(Protocol):
    """Where served blocks come from. Calls come from the trio thread, many at a time; they must not block it."""

    async def get(self, cid: bytes) -> bytes | None:
        """The verified block that a binary CIDv1 names (its hash counts, not its codec), or None."""
        ...

    async def has(self, cid: bytes) -> int | None:
        """The size of the block in bytes, or None."""
        ...


@dataclass(frozen=True, slots=True)
class PeerStatistics:
    """One peer's part in a session."""

    connected: bool
    blocks: int
    bytes: int
    asked: int
    """Blocks that it is asked for now."""
    speed: float
    """Bytes per second while it was asked for something."""
    unwanted: int
    """Blocks that it sent and nobody had asked for; a forged block is one of them."""


@dataclass(frozen=True, slots=True)
class SessionStatistics:
    """How far a session is."""

    blocks: int
    bytes: int
    wanted: int
    """Blocks still to come."""
    duplicates: int
    """Blocks that came a second time, from another peer."""
    held: int
    """Bytes that wait to be taken by the caller."""
    peers: Mapping[str, PeerStatistics]
    dropped: Mapping[str, str]
    """Peers that are not asked any more, and why."""


@dataclass(frozen=True, slots=True)
class BitswapStatistics:
    """Totals since the start."""

    blocks_sent: int
    bytes_sent: int
    """Of blocks alone."""
    blocks_received: int
    bytes_received: int
    duplicates: int
    unwanted: int
    """Blocks that peers sent and nobody had asked them for; they were not kept."""
    unwanted_bytes: int
    malformed: int
    """Messages that could not be read; the connection was closed."""
    wants: int
    """Entries of wantlists taken in."""
    refused_wants: int
    """Entries beyond a peer's limit, or of a kind that is never served."""
    links: int
    """Peers that Bitswap is spoken with now."""
    sessions: int
