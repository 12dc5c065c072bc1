"""A fake daemon behind the real status server: in this trio run, or in a thread for clients that block."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import trio

from learnaed.feed import Kind
from learnaed.status import StatusSource, serve

if TYPE_CHECKING:
    from trio_typing import TaskStatus

TOKEN = "correct horse"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def served(
    source: StatusSource, directory: Path | None = None, port: int = 0, remote: str | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    async with trio.open_nursery() as nursery:

        async def start(*, task_status: TaskStatus[str]) -> None:
            await serve(source, "127.0.0.1", port, TOKEN, remote=remote, directory=directory, task_status=task_status)

        url = await nursery.start(start)
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as client:
            yield client
        nursery.cancel_scope.cancel()


@contextmanager
def in_a_thread(source: StatusSource) -> Iterator[str]:
    """Yields the URL."""
    ready = threading.Event()
    found: list[str] = []
    stop = trio.Event()
    tokens: list[trio.lowlevel.TrioToken] = []

    async def main() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        async with served(source) as client, trio.open_nursery() as nursery:
            nursery.start_soon(tick)
            found.append(str(client.base_url).rstrip("/"))
            ready.set()
            await stop.wait()
            nursery.cancel_scope.cancel()

    async def tick() -> None:
        # Who waits for an event need not wait for long.
        while True:
            source.feed.post(Kind.MESSAGE, level="info", text="tick")
            await trio.sleep(0.05)

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    try:
        assert ready.wait(10)
        yield found[0]
    finally:
        trio.from_thread.run_sync(stop.set, trio_token=tokens[0])
        thread.join(10)
