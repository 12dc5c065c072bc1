"""Does a swarm of daemons learn as well as FedAvg with a tenth of the traffic? `python -m benchmarks.swarm`.

Real daemons in network namespaces, one shard each (Dirichlet), beside solo training and federated averaging on the
same shards with as many local steps, in one process. Bytes are the interface counters of each node, both directions,
discovery and everything else included; FedAvg's are two float32 models per round.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from benchmarks import baselines, runs
from benchmarks.report import Report, arguments
from benchmarks.seeded import SEEDS, spec


@dataclass(frozen=True, slots=True)
class Setting:
    """One swarm: so many daemons, so skewed a split, so many rounds of so many steps (which the task fixes)."""

    task: str
    nodes: int
    alpha: float
    rounds: int
    steps: int


DIGITS = Setting("digits", 4, 0.3, 60, 40)
FASHION = Setting("fashion-mnist", 8, 0.1, 40, 50)


def measure(setting: Setting, seed: int) -> dict[str, Any]:
    """One row: the swarm, solo and FedAvg for one seed. Accuracies in percent, sizes in bytes."""
    task = spec(setting.task, seed)
    swarm = runs.run(task, setting.nodes, setting.alpha, setting.rounds, seed=seed)
    shards = baselines.split(setting.nodes, setting.alpha, seed)
    solo = baselines.solo(task, shards, setting.rounds * setting.steps, seed)
    fedavg = baselines.fedavg(task, setting.nodes, setting.alpha, setting.rounds, setting.steps, seed)
    model = 4 * int(swarm.summaries[0]["parameters"])
    return {
        "seed": seed,
        "exact": 100 * swarm.accuracy,
        "average": 100 * swarm.averaged,
        "FedAvg": 100 * fedavg.accuracy,
        "solo": 100 * fmean(solo),
        "equal": swarm.agreed,
        "rounds": swarm.rounds,
        "seconds": swarm.seconds,
        "kB/node": max(swarm.traffic) / 1e3,
        "FedAvg kB": 2 * model * swarm.rounds / 1e3,
        "update B": fmean(swarm.update_bytes),
        "largest": max(swarm.update_bytes),
        "model B": model,
        "CPU s daemon": fmean(usage.cpu_daemon for usage in swarm.usage),
        "CPU s trainer": fmean(usage.cpu_trainer for usage in swarm.usage),
        "MB daemon": max(usage.memory_daemon for usage in swarm.usage) / 1e6,
        "MB trainer": max(usage.memory_trainer for usage in swarm.usage) / 1e6,
    }


def middle(rows: Sequence[dict[str, Any]], key: str) -> float:
    """Median over the seeds."""
    return float(median(row[key] for row in rows))


def show(report: Report, setting: Setting, rows: list[dict[str, Any]]) -> None:
    """Tables of one setting."""
    length = f"{setting.rounds} rounds of {setting.steps} steps"
    title = f"{setting.task}, {setting.nodes} daemons, Dirichlet {setting.alpha}, {length}"
    quality = ("seed", "exact", "average", "FedAvg", "solo", "equal", "rounds", "seconds")
    size = ("seed", "kB/node", "FedAvg kB", "update B", "largest", "model B")
    cost = ("seed", "CPU s daemon", "CPU s trainer", "MB daemon", "MB trainer")
    report.table(f"{title}: accuracy in %", [{key: row[key] for key in quality} for row in rows])
    report.table(f"{title}: bytes", [{key: row[key] for key in size} for row in rows])
    report.table(f"{title}: cost per node", [{key: row[key] for key in cost} for row in rows])


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the targets."""
    options = arguments(__doc__ or "", given)
    if reason := runs.needs_lab():
        print(reason, file=sys.stderr)
        return 2
    report = Report("swarm", options)
    seeds = SEEDS[:1] if options.quick else SEEDS

    rows = [measure(DIGITS, seed) for seed in seeds]
    show(report, DIGITS, rows)
    report.target("digits: accuracy of the running average", middle(rows, "average"), "at least", 96.0, "%")
    gain = float(median(row["average"] - row["solo"] for row in rows))
    report.target("digits: points above solo", gain, "at least", 10.0)
    report.target("digits: runs that ended bit-identical", sum(row["equal"] for row in rows), "at least", len(rows))

    rows = [measure(FASHION, seed) for seed in seeds]
    show(report, FASHION, rows)
    behind = float(median(row["FedAvg"] - row["average"] for row in rows))
    gain = float(median(row["average"] - row["solo"] for row in rows))
    saved = float(median(row["FedAvg kB"] / row["kB/node"] for row in rows))
    smaller = min(row["model B"] / row["largest"] for row in rows)
    report.target("fashion-mnist: points of the running average below FedAvg", behind, "at most", 1.0)
    report.target("fashion-mnist: points above solo", gain, "at least", 25.0)
    report.target("fashion-mnist: model to largest update", smaller, "at least", 150.0, "times")
    report.target("fashion-mnist: FedAvg's bytes to a node's bytes", saved, "at least", 10.0, "times")
    report.target("fashion-mnist: runs that ended bit-identical", sum(r["equal"] for r in rows), "at least", len(rows))
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
