"""What does it cost to write, read and collect snapshots? `python -m benchmarks.snapshot`.

The embedded store on the disk of the directory for temporary files, against `cp` and `sha256sum` of the same file in
the same run, in turns. The store makes all blocks durable before it says so, which `cp` does not; a copy that is synced
stands beside it. Everything is read from the page cache.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.report import Report, arguments
from learnae import unixfs
from learnae.blocks import Blocks
from learnae.cid import RAW
from learnaed.blockstore import BlockStore

SIZE = 100_000_000  # bytes
BLOCKS = 20_000
QUICK_BLOCKS = 2_000
BLOCK = 1024  # bytes: what a sweep takes hangs on the number of blocks


def leaves_of(path: Path) -> Iterator[bytes]:
    """The file as the trainer would give it."""
    with path.open("rb") as file:
        yield from iter(partial(file.read, unixfs.LEAF), b"")


def seconds(work: Callable[[], object]) -> float:
    """How long it takes, once."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def make(path: Path, seed: int) -> Path:
    """A file of `SIZE` bytes with nothing to save on."""
    path.write_bytes(random.Random(seed).randbytes(SIZE))
    return path


def call(*command: str | Path) -> None:
    """Run a program of the system."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def write(store: BlockStore, path: Path) -> bytes:
    """What a trainer and its daemon do: build the file into the directory of blocks, then pin it; the root."""
    with store.writer(2 * SIZE):
        with Blocks(store.blocks.directory).batch() as batch:
            root = unixfs.build(leaves_of(path), batch.put).cid
        store.pin(root, "benchmark")
    return root


def read(store: BlockStore, root: bytes) -> int:
    """Read the file back, each block checked; its size."""
    return sum(len(leaf) for leaf in store.read(root))


def compare(directory: Path, times: int) -> dict[str, float]:
    """Median seconds for each way to keep a file, and for reading it."""
    file, copy = directory / "file", directory / "copy"
    root = b""
    taken: dict[str, list[float]] = {}
    with closing(BlockStore(directory / "store")) as store:

        def keep() -> None:
            nonlocal root
            root = write(store, file)

        ways: dict[str, Callable[[], object]] = {
            "cp": lambda: call("cp", file, copy),
            "sha256sum": lambda: call("sha256sum", file),
            "cp, synced": lambda: call("dd", f"if={file}", f"of={copy}", "bs=1M", "conv=fsync", "status=none"),
            "write": keep,
            "read": lambda: read(store, root),
        }
        for turn in range(times + 1):
            make(file, turn)
            for name, way in ways.items():
                copy.unlink(missing_ok=True)
                duration = seconds(way)
                if turn:  # The first does not count.
                    taken.setdefault(name, []).append(duration)
            if read(store, root) != SIZE or store.missing(root):
                raise AssertionError("the store does not have what was written to it")
            store.unpin(root)
            store.collect()
    return {name: median(durations) for name, durations in taken.items()}


def collect(directory: Path, count: int) -> dict[str, float | int]:
    """Seconds to collect half of so many blocks, and to look through the rest in vain."""
    rng = random.Random(count)
    with closing(BlockStore(directory / f"collect-{count}")) as store:
        roots = []
        with store.writer():
            for _ in range(2):
                with Blocks(store.blocks.directory).batch() as batch:
                    roots.append(unixfs.build((rng.randbytes(BLOCK) for _ in range(count // 2)), batch.put).cid)
            pin = sum(seconds(partial(store.pin, root, "benchmark")) for root in roots) / 2
        store.unpin(roots[0])
        half = seconds(store.collect)
        if store.statistics().collected < count // 2 or store.missing(roots[1]):
            raise AssertionError("the sweep took something else than what was not pinned")
        nothing = seconds(store.collect)
        cid = store.blocks.put(RAW, b"")
        has = seconds(lambda: [store.has(cid) for _ in range(1000)]) / 1000
    return {
        "blocks": count,
        "collect half, s": half,
        "us per block deleted": half / (count // 2) * 1e6,
        "find nothing, s": nothing,
        "pin half, s": pin,
        "has, us": has * 1e6,
    }


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the targets."""
    options = arguments(__doc__ or "", given)
    report = Report("snapshot", options)
    times, counts = (3, (QUICK_BLOCKS,)) if options.quick else (7, (QUICK_BLOCKS, BLOCKS))
    with tempfile.TemporaryDirectory(prefix="learnae-snapshot-") as name:
        directory = Path(name)
        report.note(f"writing and reading {SIZE / 1e6:.0f} MB")
        taken = compare(directory, times)
        base = taken["cp"] + taken["sha256sum"]
        shown = {
            "cp": taken["cp"],
            "sha256sum": taken["sha256sum"],
            "cp + sha256sum": base,
            "cp, synced": taken["cp, synced"],
            "store: build, write, sync, pin": taken["write"],
            "store: read, check": taken["read"],
        }
        rows = [
            {"what": what, "s": took, "MB/s": SIZE / 1e6 / took, "of cp + sha256sum": took / base}
            for what, took in shown.items()
        ]
        report.table(f"a snapshot of {SIZE / 1e6:.0f} MB, median of {times}", rows)
        report.note("collecting")
        report.table("garbage collection", [collect(directory, count) for count in counts])
    report.target("write to the store, of cp + sha256sum", taken["write"] / base, "at most", 2.0)
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
