"""Do the user's limits hold? `python -m benchmarks.limits`.

Real daemons on loopback. Uploads: three peers pull a snapshot over Bitswap, again and again, as fast as a daemon gives
it that trains at the same time; they note when its heartbeats come. CPU share: a daemon alone, with a task that never
waits. Memory: a task that keeps more with every step. Pause: three connected daemons. CPU time and memory are the
kernel's figures for daemon and trainer together.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import trio

from benchmarks import greedy
from benchmarks.join import network
from benchmarks.report import Report, arguments
from learnae import unixfs, wire
from learnae.errors import LearnaeError
from learnaed import protocols
from learnaed.network import Network
from netsim import processes
from netsim.daemons import Node, Swarm, Unreachable

START = 240.0  # seconds that a daemon has to load torch and its model
TOPIC = "limits"
PULLERS = 3
BEAT = 2.0  # seconds between two heartbeats of a daemon
LATEST = 2 * BEAT  # a heartbeat waits up to half as long again for updates that are on their way
MIB = 2**20


def flags(task: str, *limits: str) -> tuple[str, ...]:
    """A daemon on loopback with these limits."""
    own = ("--topic", TOPIC, "--task", task, "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--status-port", "0")
    return (*own, *(word for limit in limits for word in ("--limit", limit)))


@contextmanager
def daemons() -> Iterator[Swarm]:
    """A place for daemons, which are gone afterwards."""
    with tempfile.TemporaryDirectory() as directory, Swarm(Path(directory)) as swarm:
        yield swarm


def used(node: Node) -> float:
    """CPU seconds of daemon and trainer."""
    return sum(processes.cpu_seconds(pid) for pid in (node.pid, node.trainer))


# --- uploads


@dataclass
class Pull:
    """What the peers see of the daemon."""

    url: str
    received: int = 0
    beats: list[float] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    async def run(self) -> None:
        """Pull with all peers until it is over."""
        async with trio.open_nursery() as nursery:
            for number in range(PULLERS):
                nursery.start_soon(self._peer, network(f"puller {number}"), number == 0)

    async def _peer(self, own: Network, listens: bool) -> None:
        if listens:
            own.subscribe(protocols.peers_topic(TOPIC), lambda data, peer: self.beats.append(time.monotonic()))
        donor = self.url.rpartition("/")[2]
        async with trio.open_nursery() as nursery:
            await nursery.start(_run, own)
            own.learn_addresses(donor, [self.url])
            async with trio.open_nursery() as pulling:
                pulling.start_soon(self._pull, own, donor)
                await trio.to_thread.run_sync(self.over.wait)
                pulling.cancel_scope.cancel()
            nursery.cancel_scope.cancel()

    async def _pull(self, own: Network, donor: str) -> None:
        while donor not in own.connected():  # noqa: ASYNC110  # only the daemon's own wiring is told of it
            await trio.sleep(0.1)
        leaves = await self._leaves(own, donor)
        self.ready.set()
        while True:
            with own.session([donor]) as session:
                async for _, block in session.fetch(leaves):
                    self.received += len(block)

    @staticmethod
    async def _leaves(own: Network, donor: str) -> list[bytes]:
        genesis = None
        while genesis is None:
            with suppress(LearnaeError):
                question = wire.pack(wire.GenesisRequest())
                reply = await own.request(donor, protocols.GENESIS, question, max_reply=wire.MAX_REPLY)
                genesis = wire.unpack(wire.GenesisReply, reply).genesis
            await trio.sleep(0.1)
        with own.session([donor]) as session:
            async for cid, block in session.fetch([genesis.weights]):
                return list({child.cid: None for child in unixfs.parse_node(block)}) if cid else []
        raise AssertionError("the daemon has no snapshot of its genesis")


async def _run(own: Network, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    await own.run(task_status=task_status)


def upload(rate: int, seconds: float) -> dict[str, Any]:
    """Bytes per second that leave a daemon with this limit, and how late its heartbeats come."""
    with daemons() as swarm:
        node = swarm.start(*flags(greedy.spec("Wide"), f"upload={rate}"))
        swarm.wait_ready(START)
        swarm.wait("its first round", lambda: node.status()["trainer"]["rounds"] >= 1, START, [node])
        pull = Pull(node.status()["listen"][0])
        thread = threading.Thread(target=trio.run, args=(pull.run,))
        thread.start()
        try:
            if not pull.ready.wait(60):
                raise RuntimeError(f"the peers got nothing\n{swarm.report()}")
            time.sleep(5)  # the first burst is over
            pull.beats.clear()
            before, steps, began = node.status(), node.status()["trainer"]["steps"], time.monotonic()
            time.sleep(seconds)
            after, elapsed = node.status(), time.monotonic() - began
            beats = [began, *pull.beats, time.monotonic()]
        finally:
            pull.over.set()
            thread.join(20)
        sent = after["network"]["bytes_sent"] - before["network"]["bytes_sent"]
        return {
            "limit kB/s": rate / 1e3,
            "seconds": elapsed,
            "sent kB/s": sent / elapsed / 1e3,
            "of the limit %": 100 * sent / elapsed / rate,
            "heartbeats": len(beats) - 2,
            "longest gap s": max(b - a for a, b in pairwise(beats)),
            "steps": after["trainer"]["steps"] - steps,
            "dropped": str(after["network"]["dropped"] or "nothing"),
        }


# --- CPU share


def share(percent: int, seconds: float) -> dict[str, Any]:
    """The part of all cores that daemon and trainer use together; at full priority, not to measure who else is here."""
    with daemons() as swarm:
        node = swarm.start(*flags(greedy.spec("Wide"), f"cpu={percent}%", "nice=0"))
        swarm.wait_ready(START)
        swarm.wait("its second round", lambda: node.status()["trainer"]["rounds"] >= 2, START, [node])
        before, began = used(node), time.monotonic()
        time.sleep(seconds)
        measured = 100 * (used(node) - before) / (time.monotonic() - began) / (os.cpu_count() or 1)
        return {"limit %": percent, "measured %": measured, "of the limit %": 100 * measured / percent}


# --- memory


def memory(task: str, limit: int, seconds: float) -> dict[str, Any]:
    """The most memory that daemon and trainer have at any time, and what the node says."""
    with daemons() as swarm:
        node = swarm.start(*flags(task, f"ram={limit}"))
        began, highest, restarts, reasons, steps = time.monotonic(), 0, 0, set[str](), 0
        while time.monotonic() - began < seconds:
            try:
                status = node.status()
                restarts, steps = status["trainer"]["restarts"], max(steps, status["trainer"]["steps"])
                reasons |= {reason["reason"] for reason in status["paused"]["reasons"]}
                pids = [node.pid, *([status["trainer"]["pid"]] if status["trainer"]["pid"] else [])]
                highest = max(highest, sum(map(_peak, pids)))
            except Unreachable:
                pass
            time.sleep(0.05)
        return {
            "limit MiB": limit // MIB,
            "peak MiB": highest / MIB,
            "steps": steps,
            "restarts": restarts,
            "paused for": ", ".join(sorted(reasons)) or "nothing",
        }


def _peak(pid: int) -> int:
    try:
        return processes.peak(pid)
    except (ProcessLookupError, FileNotFoundError):
        return 0


# --- pause


def paused(seconds: float, *limits: str) -> list[dict[str, Any]]:
    """CPU of paused daemons that know each other."""
    with daemons() as swarm:
        nodes: list[Node] = []
        for shard in range(1, 4):
            known = [word for node in nodes for word in ("--peer", node.status()["listen"][0])]
            node = swarm.start(*flags("digits", *limits), "--shard", f"{shard}/3", "--paused", *known)
            swarm.wait("its address", partial(_listens, node), 60, [node])
            nodes.append(node)
        swarm.wait_together(START)
        time.sleep(5)
        before = {pid: processes.cpu_seconds(pid) for node in nodes for pid in (node.pid, node.trainer)}
        began = time.monotonic()
        time.sleep(seconds)
        elapsed = time.monotonic() - began
        cpu = {pid: 100 * (processes.cpu_seconds(pid) - then) / elapsed for pid, then in before.items()}
        return [
            {
                "node": node.name,
                "daemon %": cpu[node.pid],
                "trainer %": cpu[node.trainer],
                "together %": cpu[node.pid] + cpu[node.trainer],
                "reasons": ", ".join(reason["reason"] for reason in node.status()["paused"]["reasons"]),
            }
            for node in nodes
        ]


def _listens(node: Node) -> bool:
    return bool(node.status()["listen"])


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the targets."""
    report = Report("limits", arguments(__doc__ or "", given))
    seconds = 20.0 if report.options.quick else 60.0

    rows = [upload(rate, seconds) for rate in (500_000, 100_000)[: 1 if report.options.quick else 2]]
    report.table(f"upload, {PULLERS} peers that take all they get, {seconds:.0f} s", rows)
    for row in rows:
        name = f"upload of {row['limit kB/s']:.0f} kB/s"
        report.target(f"{name}: away from the limit", abs(row["of the limit %"] - 100), "at most", 5.0, "%")
        report.target(f"{name}: longest time without a heartbeat", row["longest gap s"], "at most", LATEST, "s")

    rows = [share(percent, seconds) for percent in (10, 25)]
    report.table(f"CPU of daemon and trainer, part of {os.cpu_count()} cores, {seconds:.0f} s", rows)
    for row in rows:
        away = abs(row["of the limit %"] - 100)
        report.target(f"CPU share of {row['limit %']} %: away from the limit", away, "at most", 10.0, "%")

    cap = 1024 * MIB
    rows = [
        {"task": name} | memory(task, cap, seconds + 30)
        for name, task in (("leaks", greedy.spec("Hungry")), ("fits", "digits"))
    ]
    report.table(f"memory of daemon and trainer, {seconds + 30:.0f} s from the start", rows)
    for row in rows:
        what = f"memory, a task that {row['task']}: most at any time"
        report.target(what, row["peak MiB"], "at most", float(row["limit MiB"]), "MiB")
    report.target(
        "a task that leaks is paused for want of memory", float("memory" in rows[0]["paused for"]), "at least", 1
    )

    rows = paused(seconds, "idle_after=10m", "upload=1MB/s", "cpu=50%")
    report.table(f"paused, two peers connected, limits watched, {seconds:.0f} s", rows)
    report.target("paused: CPU of daemon and trainer", max(row["together %"] for row in rows), "at most", 2.0, "%")
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
