"""What does it cost that members come and go all the time? `python -m benchmarks.offline`.

Ten nodes in one process (`simulation`), of which three are offline at any time: each that trains leaves after a round
with a chance of one third, and so stays for three rounds on average. The swarm does as many local steps in all as one
in which everybody is always there; it needs more rounds for them. Shares follow those who are there.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import torch

from benchmarks import simulation
from benchmarks.report import Report, arguments
from benchmarks.seeded import SEEDS
from benchmarks.simulation import FIRST_SLOT, Member
from learnae.learner import Learner
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
FASHION = Setting("fashion-mnist", 0.1, 40, 30)


@dataclass(frozen=True, slots=True)
class Outcome:
    """``accuracy`` of the running average, 0 to 1; ``away``: part of all node slots that was spent offline."""

    accuracy: float
    slots: int
    away: float
    agreed: bool


def run(setting: Setting, seed: int, *, churn: bool) -> Outcome:
    """One swarm until it has done all its local steps."""
    rng = random.Random(seed)
    task = load_task(setting.task)
    members = [Member(n, Learner(task, Shard(n, NODES, setting.alpha, seed), seed=seed), Rules()) for n in range(NODES)]
    here = {member.author: not churn or rng.random() >= AWAY for member in members}
    left, slot, online = setting.rounds * NODES, FIRST_SLOT, members
    counts = []
    while left > 0:
        online = [member for member in members if here[member.author]]
        simulation.exchange(online, slot)  # who has come back catches up first
        for member in online:
            member.follow()
        working = online[:left]  # the last round may need fewer
        letters = [member.train(slot, setting.steps, 1 / len(online)) for member in working]
        for letter in letters:
            for member in online:
                member.receive(letter, slot)
        for member in online:
            member.follow()
            member.settle(slot)
            member.learner.tick_average()
        left -= len(working)
        counts.append(len(online))
        slot += 1
        if churn:
            for member in members:
                chance = LEAVE if here[member.author] else 1 - RETURN
                here[member.author] = rng.random() >= chance
    return Outcome(
        accuracy=simulation.accuracy(online),
        slots=slot - FIRST_SLOT,
        away=1 - fmean(counts) / NODES,
        agreed=simulation.agreed(online),
    )


def compare(setting: Setting, seed: int) -> dict[str, Any]:
    """A row: the same swarm with and without churn."""
    quiet, churned = run(setting, seed, churn=False), run(setting, seed, churn=True)
    return {
        "seed": seed,
        "all there %": 100 * quiet.accuracy,
        "with churn %": 100 * churned.accuracy,
        "points lost": 100 * (quiet.accuracy - churned.accuracy),
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
    for setting in (DIGITS,) if options.quick else (DIGITS, FASHION):
        rows = [compare(setting, seed) for seed in seeds]
        work = f"{setting.rounds} rounds of {setting.steps} steps for each without churn"
        report.table(f"{setting.task}, {NODES} nodes, Dirichlet {setting.alpha}, {work}", rows)
        lost = float(median(row["points lost"] for row in rows))
        report.target(f"{setting.task}: points lost, median", lost, "at most", 1.5)
        equal = sum(row["equal"] for row in rows)
        report.target(
            f"{setting.task}: runs in which those who are there end bit-identical", equal, "at least", len(rows)
        )
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
