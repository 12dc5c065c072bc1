"""What the status endpoint shows and steers, as it sees it; implemented by `node`, and by fakes in tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from learnaed.feed import JSON, Feed
from learnaed.history import History


class StatusSource(Protocol):
    """What the endpoint shows and steers: the daemon."""

    feed: Feed
    history: History

    def status(self) -> dict[str, Any]:
        """The node's state, ready for JSON."""

    def peers(self) -> list[dict[str, Any]]:
        """One entry per known peer, ready for JSON."""

    def healthy(self) -> tuple[bool, str]:
        """Whether the node does its work, and a line that says why or why not."""

    async def updates(self, limit: int) -> list[dict[str, Any]]:
        """So many of the updates that are held here, newest first, ready for JSON."""

    async def snapshots(self) -> list[dict[str, Any]]:
        """One entry per cut that is kept, ready for JSON. Raises LearnaeError."""

    async def pin(self, cid: str) -> dict[str, Any]:
        """Keep a cut, fetching it if need be; its entry. Raises LearnaeError where that is not possible."""

    async def unpin(self, cid: str) -> None:
        """Take that back. Raises LearnaeError where that is not possible."""

    async def take(self, path: Path) -> dict[str, Any]:
        """Take in a file of this PC that holds a cut or a snapshot; what it was. Raises LearnaeError if that fails."""

    async def pause(self, seconds: float | None) -> None:
        """Stop training, for so long or until `resume`. Raises LearnaeError where that is not possible now."""

    async def resume(self) -> None:
        """Train again. Raises LearnaeError where that is not possible now."""

    def limits(self) -> dict[str, JSON]:
        """The limits in force."""

    async def set_limits(self, changes: Mapping[str, JSON]) -> dict[str, JSON]:
        """Change some; all that are in force then. Raises LearnaeError for one that is none."""

    async def command(self, verb: str) -> None:
        """Do "finish" or "stop". Raises LearnaeError where that is not possible now."""
