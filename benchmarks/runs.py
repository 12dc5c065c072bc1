"""One run of a swarm of real daemons in network namespaces, and its figures; used by `swarm` and `churn`."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from learnae.wire import Update, open_envelope
from netsim import processes
from netsim.daemons import Node, Swarm, Unreachable
from netsim.namespaces import Lab, unavailable

START = 180.0  # seconds that all daemons have to become one swarm: torch is imported once for each
SETTLE = 90.0  # seconds that they have to finish


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes of one node had used when training ended."""

    cpu_daemon: float  # seconds
    cpu_trainer: float  # seconds
    memory_daemon: int  # most resident bytes
    memory_trainer: int  # most resident bytes


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run. Nodes are in the order of their shards; those that were killed are left out."""

    summaries: tuple[dict[str, Any], ...]  # last status of each node
    traffic: tuple[int, ...]  # bytes through each node's interface, both directions, from the daemon's start to its end
    usage: tuple[Usage, ...]
    update_bytes: tuple[int, ...]  # size of every published update, envelope included
    rounds: float  # own rounds per node, mean
    seconds: float  # of training, from the start signal until all had finished
    longest_gap: float  # seconds in which a node that ran, and was not frozen, finished no round

    @property
    def agreed(self) -> bool:
        """Whether all ended with the same updates and bit-identical replicas."""
        return all(
            len({summary[part][key] for summary in self.summaries}) == 1
            for part, key in (("trainer", "digest"), ("ledger", "vector_digest"))
        )

    @property
    def accuracy(self) -> float:
        """Of the exact weights, mean over the nodes (which is each node's, if they agreed)."""
        return fmean(summary["trainer"]["accuracy"] for summary in self.summaries)

    @property
    def averaged(self) -> float:
        """Of the weights' running average, mean over the nodes."""
        return fmean(summary["trainer"]["accuracy_averaged"] for summary in self.summaries)


class Course:
    """A swarm under way, for the events of a run: who runs, who is held still, and a way to start another."""

    def __init__(self, swarm: Swarm, flags: Callable[[int], tuple[str, ...]]) -> None:
        self.swarm = swarm
        self.frozen: set[str] = set()
        self.nodes: list[Node] = []
        self._flags = flags
        self._rounds: dict[str, tuple[int, float]] = {}
        self.longest_gap = 0.0

    def start(self, host: str, shard: int, *flags: str) -> Node:
        """Start a daemon on `host` for the shard (1-based)."""
        node = self.swarm.start(*self._flags(shard), *flags, host=host)
        self.nodes.append(node)
        return node

    def look(self) -> dict[str, int]:
        """Rounds of every node that answers; keeps account of the gaps between them."""
        now = time.monotonic()
        found: dict[str, int] = {}
        for node in self.swarm.running:
            if node.name in self.frozen:
                self._rounds.pop(node.name, None)
                continue
            try:
                status = node.status()
            except Unreachable:
                continue
            rounds = int(status["trainer"]["rounds"])
            found[node.name] = rounds
            before, since = self._rounds.get(node.name, (-1, now))
            if rounds > before:
                self._rounds[node.name] = (rounds, now)
            if before >= 1:  # the first round waits for the trainer and for the slot to begin
                self.longest_gap = max(self.longest_gap, now - since)
        return found


def needs_lab() -> str | None:
    """Why these runs cannot be made here, or None."""
    reason = unavailable()
    return f"this benchmark starts its daemons in network namespaces, but {reason}" if reason else None


def run(
    task: str,
    nodes: int,
    alpha: float,
    rounds: int,
    *,
    seed: int = 0,
    spare: int = 0,
    event: Callable[[Course, float], None] | None = None,
) -> Run:
    """Start the daemons paused, let them become one swarm, train `rounds` rounds each, finish, and measure.

    Args:
        task: as after `--task`.
        nodes: how many daemons, each in a namespace of its own with a shard of its own.
        alpha: Dirichlet alpha of the split.
        rounds: local rounds; the run ends when the nodes that were there from the start have done so many on average.
        seed: of the daemons' random draws.
        spare: hosts without a daemon at first.
        event: called about five times a second with the share of the run that is over, 0 to 1.
    """

    def flags(shard: int) -> tuple[str, ...]:
        split = ("--shard", f"{shard}/{nodes}", "--skew", str(alpha), "--seed", str(seed))
        return "--topic", "benchmark", "--task", task, *split, "--torch-threads", "1"

    with tempfile.TemporaryDirectory() as directory, Lab(nodes + spare) as lab, Swarm(Path(directory), lab) as swarm:
        course = Course(swarm, flags)
        for shard, host in enumerate(lab.nodes[:nodes], 1):
            course.start(host, shard, "--paused")
        swarm.wait_together(START)
        began = time.monotonic()
        swarm.resume()
        limit = began + 60 + 4 * rounds * float(swarm.nodes[0].status()["slot_seconds"])
        first = {node.name for node in swarm.nodes}
        while True:
            done = [count for name, count in course.look().items() if name in first]
            progress = fmean(done) / rounds if done else 0.0
            if event:
                event(course, progress)
            if progress >= 1 and not course.frozen:
                break
            if time.monotonic() > limit:
                raise RuntimeError(f"{rounds} rounds took longer than expected\n{swarm.report()}")
            time.sleep(0.2)
        usage = tuple(_usage(node) for node in swarm.running)
        ended = [node for node in course.nodes if node.running]
        summaries = tuple(swarm.finish(SETTLE))
        return Run(
            summaries=summaries,
            traffic=tuple(lab.traffic(node.host).total for node in ended),
            usage=usage,
            update_bytes=_update_bytes(ended[0].profile / "ledger.sqlite"),
            rounds=fmean(summary["trainer"]["rounds"] for summary in summaries),
            seconds=time.monotonic() - began,
            longest_gap=course.longest_gap,
        )


def _usage(node: Node) -> Usage:
    daemon, trainer = node.pid, node.trainer
    cpu, peak = processes.cpu_seconds, processes.peak
    return Usage(cpu(daemon), cpu(trainer), peak(daemon), peak(trainer))


def _update_bytes(path: Path) -> tuple[int, ...]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        envelopes = [row[0] for row in database.execute("SELECT envelope FROM updates")]
    updates = [open_envelope(Update, envelope).message for envelope in envelopes]
    return tuple(
        len(envelope) + sum(part.size for part in update.parts)
        for envelope, update in zip(envelopes, updates, strict=True)
    )
