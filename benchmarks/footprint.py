"""What does an idle daemon cost? `python -m benchmarks.footprint`.

Time from the command to the status endpoint's first answer; then memory and CPU time of a daemon that is paused with
four connected peers. Daemons run in network namespaces; the trainer process, idle too, is listed beside.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks import runs
from benchmarks.report import Report, arguments
from netsim import processes
from netsim.daemons import Node, Swarm, Unreachable
from netsim.namespaces import Lab

PEERS = 4
FLAGS = ("--topic", "benchmark", "--task", "digits", "--paused", "--torch-threads", "1")
STEP = 0.01  # seconds between two looks while starting


def answers(node: Node) -> bool:
    """Whether the status endpoint answers."""
    try:
        node.status()
    except Unreachable:
        return False
    return True


def start_times() -> tuple[float, float]:
    """Seconds from the command until the daemon answers, and until its trainer has a model."""
    with tempfile.TemporaryDirectory() as directory, Lab(1) as lab, Swarm(Path(directory), lab) as swarm:
        began = time.monotonic()
        node = swarm.start(*FLAGS, host="h1")
        while not answers(node):
            time.sleep(STEP)
        ready = time.monotonic() - began
        swarm.wait_ready(runs.START)
        return ready, time.monotonic() - began


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the targets."""
    options = arguments(__doc__ or "", given)
    if reason := runs.needs_lab():
        print(reason, file=sys.stderr)
        return 2
    report = Report("footprint", options)
    starts, seconds = (3, 15) if options.quick else (7, 60)

    times = [start_times() for _ in range(starts)]
    ready = [first for first, _ in times]
    trainer = [second for _, second in times]
    report.table(
        f"seconds from the command, {starts} starts",
        [
            {"until": "the daemon answers", "median": median(ready), "slowest": max(ready)},
            {"until": "the trainer has its model", "median": median(trainer), "slowest": max(trainer)},
        ],
    )

    with tempfile.TemporaryDirectory() as directory, Lab(PEERS + 1) as lab, Swarm(Path(directory), lab) as swarm:
        nodes = [swarm.start(*FLAGS, host=host) for host in lab.nodes]
        swarm.wait_together(runs.START)
        time.sleep(5)  # what meeting costs is over
        family = {node.name: (node.pid, node.trainer) for node in nodes}
        before = {pid: processes.cpu_seconds(pid) for pids in family.values() for pid in pids}
        traffic = {node.name: lab.traffic(node.host) for node in nodes}
        began = time.monotonic()
        time.sleep(seconds)
        elapsed = time.monotonic() - began
        share = {pid: 100 * (processes.cpu_seconds(pid) - used) / elapsed for pid, used in before.items()}
        memory = {pid: processes.resident(pid) / 1e6 for pid in before}
        rows = [
            {
                "node": node.name,
                "daemon MB": memory[node.pid],
                "daemon CPU %": share[node.pid],
                "trainer MB": memory[family[node.name][1]],
                "trainer CPU %": share[family[node.name][1]],
                "bytes/s": lab.traffic(node.host).since(traffic[node.name]).total / elapsed,
            }
            for node in nodes
        ]
        largest, usual = max(memory[node.pid] for node in nodes), median(share[node.pid] for node in nodes)
    report.table(f"paused, {PEERS} peers connected, {seconds} s", rows)
    report.target("command to answering, median", median(ready), "at most", 2.0, "s")
    report.target("memory of the daemon, largest", largest, "at most", 120.0, "MB")
    report.target("CPU of the daemon, median", usual, "at most", 2.0, "%")
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
