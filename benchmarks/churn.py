"""What do vanishing, freezing and arriving nodes cost a swarm? `python -m benchmarks.churn`.

Digits in network namespaces. Each disturbed run stands beside a quiet one with the same seed:
the first node is killed (kill -9) at a third and a new one joins at two thirds; or one is frozen (SIGSTOP) for 20 s.
Then daemons are started at the very same moment, again and again: always one swarm, never two.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import runs
from benchmarks.report import Report, arguments
from benchmarks.runs import Course
from benchmarks.seeded import SEEDS, spec
from netsim.daemons import Swarm, SwarmError
from netsim.namespaces import Lab

NODES, ALPHA = 4, 0.3
FREEZE = 20.0  # seconds


class Replacement:
    """Kill the first node at a third of the run, start a new one on its shard at two thirds."""

    def __init__(self) -> None:
        self.killed = self.joined = False

    def __call__(self, course: Course, progress: float) -> None:
        if progress >= 1 / 3 and not self.killed:
            self.killed = True
            course.nodes[0].kill()
        if progress >= 2 / 3 and not self.joined:
            self.joined = True
            course.start(f"h{NODES + 1}", 1)


class Freeze:
    """Stop all processes of the second node for 20 s from a third of the run on."""

    def __init__(self) -> None:
        self.until: float | None = None
        self._family: list[int] = []

    def __call__(self, course: Course, progress: float) -> None:
        node = course.nodes[1]
        if self.until is None and progress >= 1 / 3:
            self.until = time.monotonic() + FREEZE
            self._family = [node.pid, node.trainer]
            self._send(course, signal.SIGSTOP)
            course.frozen.add(node.name)
        elif node.name in course.frozen and self.until is not None and time.monotonic() >= self.until:
            self._send(course, signal.SIGCONT)
            course.frozen.discard(node.name)

    def _send(self, course: Course, number: signal.Signals) -> None:
        for pid in self._family:
            course.swarm.signal(pid, number)


def row(kind: str, seed: int, run: runs.Run) -> dict[str, Any]:
    """One run as a row of the table."""
    return {
        "run": kind,
        "seed": seed,
        "exact %": 100 * run.accuracy,
        "average %": 100 * run.averaged,
        "equal": run.agreed,
        "nodes at the end": len(run.summaries),
        "longest gap s": run.longest_gap,
        "seconds": run.seconds,
    }


def meet(count: int) -> float | None:
    """Start `count` daemons at the same moment; seconds until all are one swarm, or None if they never were."""
    with tempfile.TemporaryDirectory() as directory, Lab(count) as lab, Swarm(Path(directory), lab) as swarm:
        began = time.monotonic()
        for shard, host in enumerate(lab.nodes, 1):
            swarm.start("--topic", "benchmark", "--task", "digits", "--shard", f"{shard}/{count}", host=host)
        try:
            swarm.wait_together(runs.START)
            seconds = time.monotonic() - began
            swarm.wait_equal(60)
        except SwarmError as error:
            print(error, file=sys.stderr)
            return None
        return seconds


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the targets."""
    options = arguments(__doc__ or "", given)
    if reason := runs.needs_lab():
        print(reason, file=sys.stderr)
        return 2
    report = Report("churn", options)
    seeds, rounds, repeats = (SEEDS[:1], 45, 2) if options.quick else (SEEDS, 60, 20)

    rows = []
    for seed in seeds:
        task = spec("digits", seed)
        rows.append(row("quiet", seed, runs.run(task, NODES, ALPHA, rounds, seed=seed)))
        disturbed = runs.run(task, NODES, ALPHA, rounds, seed=seed, spare=1, event=Replacement())
        rows.append(row("killed and joined", seed, disturbed))
        rows.append(row("frozen", seed, runs.run(task, NODES, ALPHA, rounds, seed=seed, event=Freeze())))
    report.table(f"digits, {NODES} daemons, Dirichlet {ALPHA}, {rounds} rounds", rows)

    def lost(kind: str) -> float:
        quiet = {r["seed"]: r["average %"] for r in rows if r["run"] == "quiet"}
        return float(median(quiet[r["seed"]] - r["average %"] for r in rows if r["run"] == kind))

    slot = 1.0  # seconds, of the task digits
    for kind in ("killed and joined", "frozen"):
        report.target(f"{kind}: points lost against the quiet run", lost(kind), "at most", 1.0)
    for kind in ("quiet", "killed and joined", "frozen"):
        gap = max(r["longest gap s"] for r in rows if r["run"] == kind)
        report.target(f"{kind}: longest time without a round of a running node", gap, "at most", 3 * slot, "s")
    report.target("runs that ended bit-identical", sum(r["equal"] for r in rows), "at least", len(rows))

    meetings = []
    for count in (2, 4, 8):
        times = [meet(count) for _ in range(repeats)]
        good = [seconds for seconds in times if seconds is not None]
        meetings.append(
            {
                "nodes": count,
                "starts": len(times),
                "one swarm": len(good),
                "median s": median(good) if good else float("nan"),
                "slowest s": max(good, default=float("nan")),
            }
        )
        report.target(f"{count} started at once: one swarm of {repeats} starts", len(good), "at least", repeats)
    report.table("started at the same moment", meetings)
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
