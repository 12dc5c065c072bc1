"""Brings a cut here that is named by its CID: from this disk, from peers, from an IPFS node; for `--from` and `pin`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from learnae.cid import DAG_CBOR, codec_of, from_text, to_text
from learnae.errors import NetworkError, StoreError, WireError
from learnae.manifest import Manifest
from learnaed import logs
from learnaed.ipfs import IpfsNode
from learnaed.network import Limits, Network
from learnaed.snapshots.download import Download
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

    async def cut(self, text: str) -> bytes:
        """Bring the cut with this CID here, its snapshot included; its manifest.

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
        if not await trio.to_thread.run_sync(self._shelf.has, manifest.weights):
            await self._weights(manifest)
        if not await trio.to_thread.run_sync(self._shelf.add, manifest.weights):
            raise StoreError(f"the snapshot of the cut {text} cannot be kept: the log says why", code="snapshots-full")
        return data

    async def _manifest(self, cid: bytes) -> bytes:
        data = await trio.to_thread.run_sync(self._shelf.block, cid) or await trio.to_thread.run_sync(self._known, cid)
        if data is not None:
            return data
        with self._network.session(self._network.connected(), limits=_BLOCK) as session:
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
        session = partial(self._network.session, limits=_BLOCK)
        download = Download(self._shelf.store, manifest.weights, (), session, manifest.size, peers=tuple(peers))
        node = self._ipfs()
        if peers or node is None:
            try:
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
        try:
            await node.fetch(manifest.weights, lambda cid, block: _put(lease.put, cid, block), limit)
            await trio.to_thread.run_sync(store.pin, manifest.weights, CUT)
            complete = True
        finally:
            lease.release(keep=not complete)


def _put(put: Callable[[int, bytes], bytes], cid: bytes, block: bytes) -> None:
    put(codec_of(cid), block)
