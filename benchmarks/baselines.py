"""What a swarm is measured against, in one process and without a network: solo training, FedAvg, and the ideal swarm.

Library functions for the other benchmarks, and a table of its own: ``python -m benchmarks.baselines [--quick]``.
All figures are accuracies (0 to 1) on the task's held-out set, and deterministic for a given seed on one machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal, get_args

import numpy as np
import torch

from learnae.codec import CodecSettings
from learnae.learner import Learner, Round
from learnae.model import gather, scatter
from learnae.task import Shard, load_task

Timing = Literal["in-step", "mid-round", "late"]


@dataclass(frozen=True, slots=True)
class FedAvgResult:
    """``accuracy`` of the last average; ``bytes_per_node``: two float32 models per round, one down and one up."""

    accuracy: float
    bytes_per_node: int


@dataclass(frozen=True, slots=True)
class SwarmResult:
    """An ideal swarm's end: ``accuracy`` of the exact weights and ``averaged`` of their running average.

    ``update_bytes``: mean size of an update; ``model_bytes``: of the float32 model; ``digests``: one per node.
    """

    accuracy: float
    averaged: float
    update_bytes: float
    model_bytes: int
    digests: tuple[str, ...]


def split(nodes: int, alpha: float | None, seed: int) -> list[Shard]:
    """The shards of a data set for that many nodes."""
    return [Shard(index, nodes, alpha, seed) for index in range(nodes)]


def solo(task_name: str, shards: Sequence[Shard], steps: int, seed: int, data: Path | None = None) -> list[float]:
    """Each shard's accuracy after ``steps`` local steps with its own data alone."""
    torch.set_num_threads(1)
    task = load_task(task_name, data)
    accuracies = []
    for shard in shards:
        learner = Learner(task, shard, seed=seed)
        for _ in range(steps):
            learner.step()
        learner.model.eval()
        with torch.no_grad():
            accuracies.append(task.evaluate(learner.model)["accuracy"])
    return accuracies


def fedavg(
    task_name: str,
    nodes: int,
    alpha: float | None,
    rounds: int,
    steps_per_round: int,
    seed: int,
    data: Path | None = None,
) -> FedAvgResult:
    """Federated averaging (McMahan et al. 2017, arXiv 1602.05629): all nodes with equal weights."""
    torch.set_num_threads(1)
    task = load_task(task_name, data)
    learners = [Learner(task, shard, seed=seed) for shard in split(nodes, alpha, seed)]
    for _ in range(rounds):
        for learner in learners:
            for _ in range(steps_per_round):
                learner.step()
        mean = np.asarray(np.mean([gather(learner.model) for learner in learners], axis=0), np.float32)
        for learner in learners:
            scatter(learner.model, mean)
    learners[0].model.eval()
    with torch.no_grad():
        accuracy = task.evaluate(learners[0].model)["accuracy"]
    return FedAvgResult(accuracy, 2 * rounds * 4 * learners[0].layout.size)


def swarm_in_step(
    learners: Sequence[Learner], rounds: int, steps_per_round: int, timing: Timing = "in-step"
) -> SwarmResult:
    """The ledger engine without daemons: every learner publishes after its steps, and all updates reach everybody.

    ``timing`` says when remote updates come: ``in-step`` before the next local step, ``mid-round`` in the middle of
    the next round, ``late`` after the next round's steps.
    """
    torch.set_num_threads(1)
    wait = {"in-step": 0, "mid-round": steps_per_round // 2, "late": steps_per_round}[timing]
    pending: list[list[Round]] = [[] for _ in learners]
    sizes = []
    for _ in range(rounds):
        finished = []
        for learner, remote in zip(learners, pending, strict=True):
            for step in range(steps_per_round):
                if step == wait:
                    _deliver(learner, remote)
                learner.step()
            finished.append(learner.finish_round(1 / len(learners)))
            sizes.append(sum(map(len, finished[-1].parts)))
        for index, learner in enumerate(learners):
            _deliver(learner, pending[index])
            learner.accept(learner.payload(parts=finished[index].parts), finished[index].samples)
            pending[index] = finished[:index] + finished[index + 1 :]
            if wait == 0:
                _deliver(learner, pending[index])
            learner.tick_average()
    for learner, remote in zip(learners, pending, strict=True):
        _deliver(learner, remote)
    return SwarmResult(
        accuracy=learners[0].evaluate()["accuracy"],
        averaged=learners[0].evaluate(averaged=True)["accuracy"],
        update_bytes=fmean(sizes),
        model_bytes=4 * learners[0].layout.size,
        digests=tuple(learner.replica.digest().hex() for learner in learners),
    )


def swarm(
    task_name: str,
    nodes: int,
    alpha: float | None,
    rounds: int,
    steps_per_round: int,
    seed: int,
    timing: Timing = "in-step",
    codec: CodecSettings | None = None,
    data: Path | None = None,
) -> SwarmResult:
    """`swarm_in_step` for new learners on the shards of ``seed``."""
    task = load_task(task_name, data)
    learners = [Learner(task, shard, codec, seed) for shard in split(nodes, alpha, seed)]
    return swarm_in_step(learners, rounds, steps_per_round, timing)


def _deliver(learner: Learner, updates: list[Round]) -> None:
    while updates:
        update = updates.pop()
        if not learner.apply(learner.payload(update.norm, update.parts), update.samples):
            raise AssertionError("an update that a learner made is void")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print, and with ``--json`` write, solo, FedAvg and ideal swarm for the tasks' reference settings."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="digits only, one seed, 20 rounds")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0 (default 3)")
    parser.add_argument("--data", type=Path, help="directory of the data sets")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument(
        "--timing", choices=get_args(Timing), default="in-step", help="when updates of others arrive in the ideal swarm"
    )
    options = parser.parse_args(arguments)
    settings = [("digits", 4, 0.3, 60, 40), ("fashion-mnist", 8, 0.1, 40, 50)]
    if options.quick:
        settings = [("digits", 4, 0.3, 20, 40)]
    rows = []
    print(f"{'task':14}{'seed':>5}{'solo':>8}{'FedAvg':>8}{'swarm':>8}{'average':>9}{'update':>9}{'model':>10}")
    for task, nodes, alpha, rounds, steps in settings:
        for seed in range(1 if options.quick else options.seeds):
            alone = fmean(solo(task, split(nodes, alpha, seed), rounds * steps, seed, options.data))
            average = fedavg(task, nodes, alpha, rounds, steps, seed, options.data)
            ideal = swarm(task, nodes, alpha, rounds, steps, seed, options.timing, data=options.data)
            print(
                f"{task:14}{seed:5}{alone:8.1%}{average.accuracy:8.1%}{ideal.accuracy:8.1%}{ideal.averaged:9.1%}"
                f"{ideal.update_bytes:7.0f} B{ideal.model_bytes / 1000:7.0f} kB",
                flush=True,
            )
            row = {"task": task, "nodes": nodes, "alpha": alpha, "rounds": rounds, "steps_per_round": steps}
            rows.append(
                row
                | {
                    "seed": seed,
                    "timing": options.timing,
                    "solo": alone,
                    "fedavg": asdict(average),
                    "swarm": asdict(ideal),
                }
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
