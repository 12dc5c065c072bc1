"""What does it cost that members come and go all the time? `python -m benchmarks.offline`.

Ten nodes in one process (`simulation`), of which three are offline at any time: each that trains leaves after a round
with a chance of one third, and so stays for three rounds on average. The swarm does as many local steps in all as one
in which everybody is always there; it needs more rounds for them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np
import torch

from benchmarks import simulation
from benchmarks.report import Report, arguments
from benchmarks.seeded import SEEDS
from benchmarks.simulation import FIRST_SLOT, Member
from learnae.learner import AVERAGING, Learner
from learnae.model import gather, scatter
from learnae.rules import Rules
from learnae.task import Shard, load_task

NODES = 10
AWAY = 0.3
"""Part of the members that is offline at any time."""
LEAVE = 1 / 3
"""Chance to leave after a round: mean uptime three rounds."""
RETURN = LEAVE * (1 - AWAY) / AWAY


@dataclass(frozen=True, slots=True)
class Setting:
    """A task, how skewed its split is, rounds without churn and local steps in each."""

    task: str
    alpha: float
    rounds: int
    steps: int


DIGITS = Setting("digits", 0.3, 60, 20)
FASHION = Setting("fashion-mnist", 0.3, 40, 30)
SKEWED = Setting("fashion-mnist", 0.1, 40, 30)
"""Most classes are on one or two nodes: whatever is done, the swarm sees nothing of a class while they are away."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``accuracy`` of the running average, 0 to 1; ``away``: part of all node slots that was spent offline."""

    accuracy: float
    slots: int
    away: float
    agreed: bool


def share(member: Member, online: list[Member], slot: int) -> float:
    """As the coordinator has it: who worked in this interval or the one before keeps a part while away."""
    ledger = member.ledger
    return 1 / len(ledger.authors(ledger.rules.interval(slot) - 2) | {other.author for other in online})


def presence(setting: Setting, seed: int, *, churn: bool) -> Iterator[tuple[list[int], int]]:
    """For each slot who is there, by number, and how many of them still have a round to do, until all is done."""
    rng = random.Random(seed)
    here = [not churn or rng.random() >= AWAY for _ in range(NODES)]
    left = setting.rounds * NODES
    while left > 0:
        online = [number for number in range(NODES) if here[number]]
        yield online, min(left, len(online))
        left -= len(online)
        if churn:
            here = [rng.random() >= (LEAVE if there else 1 - RETURN) for there in here]


def run(setting: Setting, seed: int, *, churn: bool) -> Outcome:
    """One swarm until it has done all its local steps."""
    task = load_task(setting.task)
    members = [Member(n, Learner(task, Shard(n, NODES, setting.alpha, seed), seed=seed), Rules()) for n in range(NODES)]
    online: list[Member] = []
    counts = []
    for slot, (numbers, rounds) in enumerate(presence(setting, seed, churn=churn), FIRST_SLOT):
        online = [members[number] for number in numbers]
        simulation.exchange(online, slot)  # who has come back catches up first
        for member in online:
            member.follow()
        letters = [member.train(slot, setting.steps, share(member, online, slot)) for member in online[:rounds]]
        for letter in letters:
            for member in online:
                member.receive(letter, slot)
        for member in online:
            member.follow()
            member.settle(slot)
            member.learner.tick_average()
        counts.append(len(online))
    return Outcome(
        accuracy=simulation.accuracy(online),
        slots=len(counts),
        away=1 - fmean(counts) / NODES,
        agreed=simulation.agreed(online),
    )


def fedavg(setting: Setting, seed: int, *, churn: bool) -> float:
    """Accuracy of federated averaging with the same nodes there in each round, all with equal weights.

    Of the running average over rounds, as for the swarm.
    """
    task = load_task(setting.task)
    learners = [Learner(task, Shard(n, NODES, setting.alpha, seed), seed=seed) for n in range(NODES)]
    model = gather(learners[0].model)
    average = model.copy()
    for numbers, rounds in presence(setting, seed, churn=churn):
        trained = []
        for learner in [learners[number] for number in numbers[:rounds]]:
            scatter(learner.model, model)
            for _ in range(setting.steps):
                learner.step()
            trained.append(gather(learner.model))
        if trained:
            model = np.asarray(np.mean(trained, axis=0), np.float32)
        average += np.float32(AVERAGING) * (model - average)
    scatter(learners[0].model, average)
    learners[0].model.eval()
    with torch.no_grad():
        return float(task.evaluate(learners[0].model)["accuracy"])


def compare(setting: Setting, seed: int) -> dict[str, Any]:
    """A row: the same swarm with and without churn, and FedAvg with the same nodes away."""
    quiet, churned = run(setting, seed, churn=False), run(setting, seed, churn=True)
    central = [100 * fedavg(setting, seed, churn=churn) for churn in (False, True)]
    return {
        "seed": seed,
        "all there %": 100 * quiet.accuracy,
        "with churn %": 100 * churned.accuracy,
        "points lost": 100 * (quiet.accuracy - churned.accuracy),
        "FedAvg %": central[0],
        "FedAvg with churn %": central[1],
        "FedAvg lost": central[0] - central[1],
        "offline %": 100 * churned.away,
        "slots": f"{quiet.slots} / {churned.slots}",
        "equal": quiet.agreed and churned.agreed,
    }


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the targets."""
    options = arguments(__doc__ or "", given)
    torch.set_num_threads(1)
    report = Report("offline", options)
    seeds = SEEDS[:1] if options.quick else SEEDS
    for setting in (DIGITS,) if options.quick else (DIGITS, FASHION, SKEWED):
        rows = [compare(setting, seed) for seed in seeds]
        work = f"{setting.rounds} rounds of {setting.steps} steps for each without churn"
        report.table(f"{setting.task}, {NODES} nodes, Dirichlet {setting.alpha}, {work}", rows)
        lost = float(median(row["points lost"] for row in rows))
        name = f"{setting.task}, Dirichlet {setting.alpha}"
        report.target(f"{name}: points lost, median", lost, "at most", 1.5)
        equal = sum(row["equal"] for row in rows)
        report.target(f"{name}: runs in which those who are there end bit-identical", equal, "at least", len(rows))
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
