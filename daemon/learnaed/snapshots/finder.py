"""Brings a cut here that is named by its CID: from this disk, from peers, from an IPFS node; for `--from` and `pin`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

import trio

from learnae.cid import DAG_CBOR, DAG_PB, codec_of, from_text, to_text
from learnae.errors import NetworkError, StoreError, WireError
from learnae.manifest import Manifest
from learnaed import logs
from learnaed.blockstore import Lease
from learnaed.ipfs import IpfsNode
from learnaed.network import Limits, Network
from learnaed.snapshots.download import TOGETHER, Download, Pace, Progress, held_of, note_drop, tell
from learnaed.snapshots.shelf import CUT, Shelf

_OVERHEAD: Final = 1.01
"""Nodes of a tree are less than a hundredth of its leaves."""
_BLOCK = Limits(patience=15.0)
_IPFS_SECONDS = 30.0

log = logs.get("snapshots")


class Finder:
    """Asks peers first, who are near; then the IPFS node, which may look for it in its own network.

    Args:
        shelf: where snapshots belong.
        network: the peers; whoever is connected is asked.
        ipfs: the IPFS node, if there is one now.
        known: manifests that are here already, by CID.
    """

    def __init__(
        self,
        shelf: Shelf,
        network: Network,
        ipfs: Callable[[], IpfsNode | None],
        known: Callable[[bytes], bytes | None],
    ) -> None:
        self._shelf = shelf
        self._network = network
        self._ipfs = ipfs
        self._known = known
        self._download: Download | _Import | None = None

    @property
    def progress(self) -> Progress | None:
        """Of the snapshot that is being fetched, if one is."""
        return self._download.progress if self._download is not None else None

    async def cut(self, text: str, keep: Callable[[bytes], object] = lambda data: None) -> bytes:
        """Bring the cut with this CID here, its snapshot included; its manifest.

        Args:
            text: the CID.
            keep: called with the manifest, in a thread, to pin the cut: until then nothing of it can be swept.

        Raises:
            WireError: it is no CID of a cut.
            NetworkError: nobody has it.
            StoreError: there is no room for it.
        """
        cid = from_text(text)
        if codec_of(cid) != DAG_CBOR:
            raise WireError(
                f"{text} is no cut: `learnae snapshots` shows the CIDs of cuts, which begin with 'bafyrei'",
                code="not-a-cut",
            )
        data = await self._manifest(cid)
        try:
            manifest = Manifest.decode(data)
        except WireError as error:
            raise WireError(f"{text} is no cut of a swarm, but something else: {error}", code="not-a-cut") from error
        lease = await trio.to_thread.run_sync(self._shelf.store.lease, manifest.weights)
        complete = False
        try:
            if not await trio.to_thread.run_sync(self._shelf.has, manifest.weights):
                await self._weights(manifest)
            if not await trio.to_thread.run_sync(self._shelf.add, manifest.weights):
                raise StoreError(
                    f"the snapshot of the cut {text} cannot be kept: the log says why", code="snapshots-full"
                )
            await trio.to_thread.run_sync(keep, data)
            complete = True
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(lease.release, keep=not complete))
        return data

    async def _manifest(self, cid: bytes) -> bytes:
        data = await trio.to_thread.run_sync(self._shelf.block, cid) or await trio.to_thread.run_sync(self._known, cid)
        if data is not None:
            return data
        with self._network.session(self._network.connected(), limits=_BLOCK, on_drop=note_drop) as session:
            try:
                if self._network.connected():
                    async for _, block in session.fetch([cid]):
                        return block
            except NetworkError as error:
                log.info("no peer gives the cut", cid=to_text(cid), why=error)
        node = self._ipfs()
        if node is None:
            raise NetworkError(
                f"nobody has the cut {to_text(cid)}: neither this disk nor {len(self._network.connected())} peers. "
                "Connect to a peer or to an IPFS node that has it (--peer, --ipfs)",
                code="cut-not-found",
            )
        return await node.read(cid, _IPFS_SECONDS)

    async def _weights(self, manifest: Manifest) -> None:
        peers = self._network.connected()
        limits = replace(_BLOCK, held=held_of(manifest.size))
        session = partial(self._network.session, limits=limits, on_drop=note_drop)
        arrived = self._network.blocks_arrived
        download = Download(
            self._shelf.store, manifest.weights, (), session, manifest.size, peers=tuple(peers), arrived=arrived
        )
        node = self._ipfs()
        if peers or node is None:
            try:
                with self._shown(download):
                    async with tell(download, lambda: download.add(self._network.connected())):
                        await download.run()
                return
            except NetworkError as error:
                if node is None:
                    raise
                log.info("no peer gives the snapshot", cid=to_text(manifest.weights), why=error)
        assert node is not None
        await self._from_ipfs(node, manifest)

    async def _from_ipfs(self, node: IpfsNode, manifest: Manifest) -> None:
        store = self._shelf.store
        limit = int(_OVERHEAD * manifest.size) + 4096
        lease = await trio.to_thread.run_sync(store.lease, manifest.weights, limit)
        complete = False
        coming = _Import(manifest, lease)
        try:
            with self._shown(coming):
                async with tell(coming):
                    await node.fetch(manifest.weights, coming.take, limit)
            await trio.to_thread.run_sync(coming.flush)
            if await trio.to_thread.run_sync(store.missing, manifest.weights):
                raise NetworkError(
                    f"the IPFS node has only a part of {to_text(manifest.weights)}: try again when it, or a peer, has "
                    "all of it",
                    code="cut-not-found",
                )
            await trio.to_thread.run_sync(store.pin, manifest.weights, CUT)
            complete = True
        finally:
            lease.release(keep=not complete)

    @contextmanager
    def _shown(self, download: Download | _Import) -> Iterator[None]:
        self._download = download
        try:
            yield
        finally:
            self._download = None


class _Import:
    """The blocks of a snapshot as an IPFS node sends them: several are made durable together."""

    def __init__(self, manifest: Manifest, lease: Lease) -> None:
        self._manifest = manifest
        self._lease = lease
        self._waiting: list[tuple[int, bytes]] = []
        self._done = 0
        self._pace = Pace()

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return Progress(self._manifest.weights, self._done, self._manifest.size, 0, self._pace.speed)

    def take(self, cid: bytes, block: bytes) -> None:
        """Take a block, in a thread."""
        self._waiting.append((codec_of(cid), block))
        if len(self._waiting) >= TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        self._lease.put_all(waiting)
        came = sum(len(block) for codec, block in waiting if codec != DAG_PB)
        self._done += came
        self._pace.add(came, time.monotonic())
