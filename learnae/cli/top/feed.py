"""Keeps `top` fed: events say that something is new, the status says what; polls daemons that have no events."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx

from learnae.cli import daemons
from learnae.cli.daemons import Daemon
from learnae.cli.stream import HEARTBEAT, Parser
from learnae.cli.top.trail import SPAN
from learnae.errors import DaemonError

OFTEN = 1.0
"""Seconds between two looks at least, however much happens: over ssh each costs a few kB."""
POLL = 2.0
"""Seconds between two looks at a daemon that tells of no events."""
SELDOM = 5.0
"""Seconds between two looks at one that does, while nothing happens."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of one daemon. `daemon` None: none runs, or it does not answer, and `trouble` says what.

    `past`: rows of its history, oldest first; with the first look at it only. `running`: profiles of all daemons here.
    """

    running: Sequence[str] = ()
    daemon: Daemon | None = None
    trouble: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)
    peers: Sequence[Mapping[str, Any]] = ()
    past: Sequence[Mapping[str, Any]] = ()


class Source(Protocol):
    """Where `top` looks, and what it steers."""

    async def run(self, show: Callable[[Look], None]) -> None:
        """Show one look after the other, until cancelled."""

    async def post(self, daemon: Daemon, path: str) -> None:
        """Steer a daemon. Raises DaemonError if it refuses."""

    def switch(self) -> bool:
        """Watch the next daemon of this PC; False if there is no other."""


class Watch:
    """The daemons of one home. Watches that of `profile`, or the first one, and another one after `switch`."""

    def __init__(self, home: Path, profile: str | None) -> None:
        self._home = home
        self._profile = profile
        self._news = asyncio.Event()
        self._listening = False

    async def run(self, show: Callable[[Look], None]) -> None:
        """Show one look after the other, until cancelled."""
        while True:
            running = daemons.find(self._home)
            names = tuple(daemon.profile for daemon in running)
            daemon = next((one for one in running if self._profile in (None, one.profile)), None)
            if daemon is None:
                who = f"daemon {self._profile!r} does" if self._profile else "no daemon does"
                show(Look(names, trouble=f"{who} not run now; this goes on when it is back"))
                await self._news_within(OFTEN)
                continue
            self._profile = daemon.profile
            try:
                async with _client(daemon) as client:
                    await self._watch(client, daemon, names, show)
            except DaemonError as error:
                show(Look(names, trouble=str(error)))
                await self._news_within(OFTEN)

    async def post(self, daemon: Daemon, path: str) -> None:
        """Steer a daemon. Raises DaemonError if it refuses."""
        async with _client(daemon) as client:
            client.headers.update(daemon.authorisation())
            await _json(daemon, client, "POST", path)
        self._news.set()

    def switch(self) -> bool:
        """Watch the next daemon of this PC; False if there is no other."""
        names = [daemon.profile for daemon in daemons.find(self._home)]
        others = [name for name in names if name != self._profile]
        if not others:
            return False
        self._profile = next((name for name in others if name > (self._profile or "")), others[0])
        self._news.set()
        return True

    async def _watch(
        self, client: httpx.AsyncClient, daemon: Daemon, names: Sequence[str], show: Callable[[Look], None]
    ) -> None:
        past = await self._past(daemon, client)
        listener = asyncio.create_task(self._listen(daemon, client))
        try:
            while self._profile == daemon.profile:
                self._news.clear()
                status = await _json(daemon, client, "GET", "/api/status")
                peers = await _json(daemon, client, "GET", "/api/peers")
                if not isinstance(status, dict) or not isinstance(peers, list):
                    raise DaemonError(f"what answers at {daemon.url} is no learnae daemon", code="daemon-foreign")
                names = tuple(other.profile for other in daemons.find(self._home))
                show(Look(names, daemon, "", status, peers, past))
                past = []
                await asyncio.sleep(OFTEN)
                await self._news_within((SELDOM if self._listening else POLL) - OFTEN)
        finally:
            self._listening = False
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def _listen(self, daemon: Daemon, client: httpx.AsyncClient) -> None:
        parser = Parser()
        headers = {"Accept": "text/event-stream"}
        timeout = httpx.Timeout(10.0, read=3 * HEARTBEAT)
        with contextlib.suppress(httpx.HTTPError):
            async with client.stream("GET", "/api/events", headers=headers, timeout=timeout) as answer:
                # Daemons of older versions have no events: they are polled.
                self._listening = answer.is_success
                async for line in answer.aiter_lines():
                    if answer.is_success and parser.feed(line):
                        self._news.set()
        self._listening = False

    async def _past(self, daemon: Daemon, client: httpx.AsyncClient) -> Sequence[Mapping[str, Any]]:
        try:
            answer = await _json(daemon, client, "GET", f"/api/history?since={time.time() - SPAN:.0f}")
        except DaemonError:
            return []
        rows = answer.get("rows") if isinstance(answer, dict) else None
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    async def _news_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)


def _client(daemon: Daemon) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=daemon.url, trust_env=False, timeout=daemons.TIMEOUT, headers=daemon.reading())


async def _json(daemon: Daemon, client: httpx.AsyncClient, method: str, path: str) -> Any:
    try:
        answer = await client.request(method, path)
    except httpx.HTTPError as error:
        raise daemon.silent(error) from error
    if answer.is_error:
        raise daemon.refused(answer)
    return daemon.content(answer)
