"""What is fetched before training starts, for `learnaed run --from CID` and `--init CID`; called by `app`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from learnae.coordinator.actions import KeepCut, Prune, Settle
from learnae.errors import NetworkError
from learnae.manifest import Manifest
from learnaed import logs
from learnaed.driver import Driver
from learnaed.snapshots.archive import Archive
from learnaed.snapshots.finder import Finder
from learnaed.store import Store

_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between two tries: peers and the IPFS node are still being found."""

log = logs.get("snapshots")


async def start_from(text: str, finder: Finder, archive: Archive, store: Store, driver: Driver) -> None:
    """Fetch the cut with this CID, and have the ledger begin with it, unless it knows of a later one.

    Raises:
        WireError: it is no cut.
        NetworkError: nobody has it, for half a minute.
        StoreError: there is no room for it.
    """
    # No pin of the user's: it goes when the swarm, or this node in it, has gone on.
    data = await _find(text, finder, archive.settled)
    manifest = Manifest.decode(data)
    driver.starts_from(manifest)
    kept = await trio.to_thread.run_sync(store.kept, manifest.swarm)
    floor = Manifest.decode(kept.floor).index if kept.floor is not None else -1
    if max([floor, *(cut.index for cut in kept.settled)]) >= manifest.index:
        log.info("this node knows of a later cut already, and goes on from there", cut=text)
        return
    begin = KeepCut(manifest.swarm, manifest.id, data), Settle(manifest.swarm, manifest.id)
    prune = Prune(manifest.swarm, manifest.id, -1, kept.own_seq, (manifest.weights,))
    await trio.to_thread.run_sync(store.carry_out, [*begin, prune])
    log.info("starting from a cut", cut=text, updates=manifest.updates, bytes=manifest.size)


async def fetch_initial(text: str, finder: Finder, archive: Archive) -> None:
    """Fetch the cut whose weights a swarm begins with, and pin it: each start needs it again.

    Raises:
        WireError: it is no cut.
        NetworkError: nobody has it, for half a minute.
        StoreError: there is no room for it.
    """
    await _find(text, finder, archive.pin)
    log.info("the swarm begins with the weights of a cut", cut=text)


async def _find(text: str, finder: Finder, keep: Callable[[bytes], object]) -> bytes:
    for pause in _PAUSES:
        try:
            return await finder.cut(text, keep)
        except NetworkError as error:
            log.info("the cut is not here yet", why=error)
            await trio.sleep(pause)
    return await finder.cut(text, keep)
