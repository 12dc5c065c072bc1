"""Do nodes on disjoint texts write as well as one that has all of it? `python -m benchmarks.charlm`.

A GPT of a million weights (task `charlm`, with small batches) on stories that are made up: four nodes in one process,
each with a quarter of the text, beside one node that trains on all of it with as many tokens in all, and so with four
times as many steps. For both the learning rate falls to nothing over the run. Updates reach everybody at the end of a
round. Of both, exact weights and their running average are looked at, and the better one is taken. `--rounds N` makes
the run longer, `--seeds N` repeats it, `--plot FILE` draws the curves.
"""

from __future__ import annotations

import multiprocessing
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from benchmarks.report import Report, arguments
from learnae.codec import CodecSettings
from learnae.learner import AVERAGING, Learner
from learnae.model import gather, scatter
from learnae.task import Shard
from learnae.tasks.charlm import CharLM

NODES, STEPS, ROUNDS = 4, 5, 375
CODEC = CodecSettings(density=0.01, lr_outer=1.6, mu=0.5)
"""Half of the default density: a language model has many weights, and few of them matter in a round. Larger outer steps
with less momentum bring those few sooner."""


@dataclass(frozen=True, slots=True)
class Point:
    """After so many ``tokens`` of all nodes: the ``loss`` on held-out text, in nats per byte."""

    tokens: int
    loss: float


@dataclass(frozen=True, slots=True)
class Course:
    """One training; ``bytes``: of a node in a round, sent and received (nan: nothing is sent)."""

    points: tuple[Point, ...]
    bytes: float
    equal: bool


class Small(CharLM):
    """Batches of 4, so that many short rounds go into few minutes, and a rate that falls over so many ``rounds``."""

    batch: ClassVar[int] = 4

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self._samples = rounds * STEPS * NODES * self.batch

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def learning_rate(self, samples: int) -> float:
        """The task's rise, and a linear fall to a fiftieth."""
        left = max(0.0, 1.0 - samples / self._samples)
        return min(1.0, 0.1 + samples / self.warm_up) * (0.02 + 0.98 * left)


def alone(task: CharLM, rounds: int, seed: int, every: int) -> Course:
    """One node on the whole text, with the tokens of all four."""
    learner = Learner(task, Shard(0, 1), seed=seed)
    average, points = gather(learner.model), []
    for done in range(1, rounds + 1):
        for _ in range(STEPS * NODES):
            learner.step()
        learner.samples_seen = learner.round_samples
        weights = gather(learner.model)
        average += np.float32(AVERAGING) * (weights - average)
        if done % every == 0 or done == rounds:
            learner.model.eval()
            losses = []
            with torch.no_grad():
                for some in (average, weights):
                    scatter(learner.model, some)
                    losses.append(task.evaluate(learner.model)["loss"])
            points.append(_point(task, "one node", done, losses))
    return Course(tuple(points), float("nan"), True)


def swarm(task: CharLM, rounds: int, seed: int, every: int) -> Course:
    """Four nodes, each on its own quarter; every update is added by everybody before the next round."""
    learners = [Learner(task, Shard(index, NODES), CODEC, seed) for index in range(NODES)]
    points, sizes = [], []
    for done in range(1, rounds + 1):
        finished = []
        for learner in learners:
            for _ in range(STEPS):
                learner.step()
            finished.append(learner.finish_round(1 / NODES))
        sizes += [sum(map(len, update.parts)) for update in finished]
        for number, learner in enumerate(learners):
            own = finished[number]
            learner.accept(learner.payload(own.norm, own.parts), own.samples)
            for other in finished[:number] + finished[number + 1 :]:
                learner.apply(learner.payload(other.norm, other.parts), other.samples)
            learner.restart_round()
            learner.tick_average()
        if done % every == 0 or done == rounds:
            losses = [learners[0].evaluate(averaged=averaged)["loss"] for averaged in (False, True)]
            points.append(_point(task, "four nodes", done, losses))
    equal = len({learner.replica.digest() for learner in learners}) == 1
    return Course(tuple(points), 2 * (NODES - 1) * fmean(sizes), equal)


def side_by_side(task: CharLM, rounds: int, seed: int, every: int) -> tuple[Course, Course]:
    """One node, and four, in two processes of one thread each."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, torch.set_num_threads, (1,)) as processes:
        one, many = (processes.submit(run, task, rounds, seed, every) for run in (alone, swarm))
        return one.result(), many.result()


def _point(task: CharLM, who: str, rounds: int, losses: Sequence[float]) -> Point:
    point = Point(_tokens(task, rounds), min(losses))
    print(f"{who}, round {rounds}: {point.loss:.4f}", file=sys.stderr, flush=True)
    return point


def _tokens(task: CharLM, rounds: int) -> int:
    return rounds * STEPS * NODES * task.batch * task.settings.context


def draw(courses: dict[str, Course], path: Path) -> None:
    """Loss over tokens, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, course in courses.items():
        axes.plot([p.tokens / 1e6 for p in course.points], [p.loss for p in course.points], label=name)
    axes.set(xlabel="tokens of all nodes, millions", ylabel="held-out loss, nats per byte", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the targets."""
    parser = ArgumentParser(add_help=False)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seeds", type=int, default=1)
    own, rest = parser.parse_known_args(given)
    options = arguments(__doc__ or "", rest)
    report = Report("charlm", options)
    rounds, seeds = (40, range(1)) if options.quick else (own.rounds, range(own.seeds))
    every = max(1, rounds // 20)
    task = Small(rounds)
    rows, ratios, shares, equal = [], [], [], []
    for seed in seeds:
        one, many = side_by_side(task, rounds, seed, every)
        size = Learner(task, Shard(0, 1)).layout.size
        fedavg = 2 * 4 * size
        loss = {"one node, all the text": one.points[-1].loss, "four nodes, a quarter each": many.points[-1].loss}
        ratios.append(many.points[-1].loss / one.points[-1].loss)
        shares.append(fedavg / many.bytes)
        equal.append(many.equal)
        rows.append(
            {"seed": seed, **loss, "ratio": ratios[-1], "kB a round": many.bytes / 1e3, "FedAvg's kB": fedavg / 1e3}
        )
        if own.plot:
            draw({"one node, all the text": one, "four nodes, a quarter of the text each": many}, own.plot)
    report.table(f"{_tokens(task, rounds) / 1e6:.1f} M tokens in all, {rounds} rounds of {STEPS} steps", rows)
    if not options.quick:  # a few rounds are too few to tell
        report.target("loss of four nodes to that of one, worst seed", max(ratios), "at most", 1.05)
    report.target("FedAvg's bytes in a round to a node's", min(shares), "at least", 100)
    report.target("runs that ended bit-identical", sum(equal), "at least", len(equal))
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
