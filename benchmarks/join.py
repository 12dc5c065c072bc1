"""How fast does a newcomer get the blocks of a model? `python -m benchmarks.join`.

Four processes on loopback, as four daemons are: three donors and a joiner, which fetches 100 MB in blocks of 256 KiB
over Bitswap, verified, from all three. In the same run one donor writes as many bytes into a raw libp2p stream of the
same hosts, which the joiner only counts. Donors hold their blocks in memory. The joiner drops them, or, in a row of its
own, downloads them as a daemon does: onto the disk of the directory for temporary files, durable, checked, pinned. The
processor time is the joiner's, all its threads together.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final, TypeVar

import trio

from benchmarks.report import Report, arguments
from learnae import unixfs
from learnae.cid import RAW, codec_of, make_cid
from learnaed.blockstore import BlockStore
from learnaed.network import Limits, Network, NetworkSettings
from learnaed.network.patches import FRAME
from learnaed.snapshots.download import Download, held_of

DONORS: Final = 3
BLOCK: Final = 256 * 1024
STREAM: Final = "/learnae/benchmark-raw/1"
T = TypeVar("T")


class Model:
    """The blocks of a model, in memory: a source for Bitswap."""

    def __init__(self, size: int) -> None:
        random = Random(1)
        self.blocks: dict[bytes, bytes] = {}
        self.root = unixfs.build((random.randbytes(BLOCK) for _ in range(size // BLOCK)), self._put)

    def _put(self, codec: int, block: bytes) -> bytes:
        cid = make_cid(codec, block)
        self.blocks[cid] = block
        return cid

    @property
    def leaves(self) -> list[bytes]:
        """Their CIDs, in order."""
        return [cid for cid in self.blocks if codec_of(cid) == RAW]

    async def get(self, cid: bytes) -> bytes | None:
        return self.blocks.get(cid)

    async def has(self, cid: bytes) -> int | None:
        return len(self.blocks[cid]) if cid in self.blocks else None


def network(name: str) -> Network:
    """A node on loopback."""
    settings = NetworkSettings(listen=("/ip4/127.0.0.1/tcp/0",), mdns=False)
    return Network(hashlib.sha256(name.encode()).digest(), settings, on_peer=lambda peer, up: None)


def donate(name: str, size: int, parent: Connection) -> None:
    """A donor's process; it ends when its parent does."""
    trio.run(_donate, name, size, parent)


async def _donate(name: str, size: int, parent: Connection) -> None:
    async def write(stream: Any) -> None:
        piece = bytes(FRAME)
        for start in range(0, size, FRAME):
            await stream.write(piece[: size - start])
        await stream.close()

    donor, model = network(name), Model(size)
    donor.serve_blocks(model)
    async with trio.open_nursery() as nursery:
        await nursery.start(_run, donor)
        assert donor._host is not None
        donor._host.streams.set_stream_handler(STREAM, write)  # type: ignore[arg-type]  # a plain string is as good
        parent.send((donor.peer_id, donor.addresses))
        await trio.to_thread.run_sync(_closed, parent)
        nursery.cancel_scope.cancel()


def _closed(parent: Connection) -> None:
    with suppress(EOFError):
        parent.recv()


async def _run(node: Network, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    await node.run(task_status=task_status)


@contextmanager
def donors(size: int) -> Iterator[dict[str, tuple[str, ...]]]:
    """Peer ids and addresses of running donors."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        for number in range(DONORS):
            ours, theirs = context.Pipe()
            process = context.Process(target=donate, args=(f"donor {number}", size, theirs), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        yield dict(pipe.recv() for pipe in pipes)
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join(5.0)
            process.kill()


async def raw(node: Network, peer: str, size: int) -> float:
    """MB/s of one stream that is only counted."""
    host = node._host
    assert host is not None
    [identity] = [known for known in host.swarm.connections if str(known) == peer]
    began = time.perf_counter()
    stream: Any = await host.streams.new_stream(identity, [STREAM])  # type: ignore[list-item]
    left = size
    while left:
        left -= len(await stream.read(min(left, BLOCK)))
    await stream.close()
    return size / (time.perf_counter() - began) / 1e6


async def bitswap(node: Network, peers: Sequence[str], cids: Sequence[bytes]) -> tuple[float, int]:
    """MB/s of verified blocks from these peers, and how many bytes came twice."""
    began, before = time.perf_counter(), node.block_statistics()
    size = 0
    with node.session(peers) as session:
        async for _, block in session.fetch(cids):
            size += len(block)
    took = time.perf_counter() - began
    if size != len(cids) * BLOCK:
        raise AssertionError(f"{size} bytes came")
    return size / took / 1e6, node.block_statistics().bytes_received - before.bytes_received - size


async def download(node: Network, peers: Sequence[str], root: unixfs.Child) -> float:
    """MB/s of a snapshot that is on the disk, checked and pinned, in the end."""
    with tempfile.TemporaryDirectory(prefix="learnae-join-") as name, closing(BlockStore(Path(name))) as store:
        session = partial(node.session, limits=Limits(held=held_of(root.size)))
        began = time.perf_counter()
        await Download(store, root.cid, (), session, root.size, peers=tuple(peers)).run()
        return root.size / (time.perf_counter() - began) / 1e6


async def timed(work: Awaitable[T]) -> tuple[T, float]:
    """What it gives, and the seconds of processor time that this process took for it."""
    began = time.process_time()
    return await work, time.process_time() - began


async def measure(size: int, rounds: int, given: dict[str, tuple[str, ...]]) -> list[dict[str, float]]:
    """All figures, for each round."""
    joiner, model, rows = network("joiner"), Model(size), []
    cids = model.leaves
    async with trio.open_nursery() as nursery:
        await nursery.start(_run, joiner)
        for peer, addresses in given.items():
            joiner.learn_addresses(peer, addresses)
        with trio.fail_after(30):
            while len(joiner.connected()) < DONORS:  # noqa: ASYNC110  # nothing tells
                await trio.sleep(0.05)
        first, *_ = peers = list(given)
        await raw(joiner, first, size // 4)
        await bitswap(joiner, peers, cids[: len(cids) // 4])
        for number in range(rounds):
            stream, plain = await timed(raw(joiner, first, size))
            (rate, twice), seconds = await timed(bitswap(joiner, peers, cids))
            single, _ = await bitswap(joiner, [first], cids)
            kept = await download(joiner, peers, model.root)
            again = await raw(joiner, first, size)
            stream = (stream + again) / 2
            rows.append(
                {
                    "round": number + 1,
                    "raw stream": stream,
                    "3 donors": rate,
                    "1 donor": single,
                    "onto the disk": kept,
                    "ratio": rate / stream,
                    "raw, s of CPU": plain,
                    "3 donors, s of CPU": seconds,
                    "came twice, %": 100 * twice / size,
                }
            )
        nursery.cancel_scope.cancel()
    return rows


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the targets."""
    options = arguments(__doc__ or "", given)
    report = Report("join", options)
    size, rounds = (400 * BLOCK, 3) if options.quick else (400 * BLOCK, 9)
    with donors(size) as running:
        rows = trio.run(measure, size, rounds, running)
    report.table(f"{size / 1e6:.0f} MB from {DONORS} donors on loopback, MB/s", rows)
    report.target("median over Bitswap", median(row["3 donors"] for row in rows), "at least", 25.0, "MB/s")
    report.target("median share of a raw stream", median(row["ratio"] for row in rows), "at least", 0.8)
    report.target("median onto the disk", median(row["onto the disk"] for row in rows), "at least", 25.0, "MB/s")
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
