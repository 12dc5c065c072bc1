"""Do nodes on disjoint texts write as well as one that has all of it? `python -m benchmarks.charlm`.

A GPT of a million weights (task `charlm`) on stories that are made up: four nodes in one process, each with a quarter
of the text, beside one node that trains on all of it with as many tokens in all. Updates reach everybody at the end of
a round. `--plot FILE` draws the curves.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch

from benchmarks.report import Report, arguments
from learnae.codec import CodecSettings
from learnae.learner import Learner
from learnae.task import Shard
from learnae.tasks.charlm import CharLM

NODES, STEPS = 4, 25
CODEC = CodecSettings(density=0.01)
"""Half of the default: a language model has many weights, and few of them matter in a round."""


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


def alone(task: CharLM, rounds: int, seed: int, every: int) -> Course:
    """One node on the whole text, with the tokens of all four."""
    learner = Learner(task, Shard(0, 1), seed=seed)
    points = []
    for done in range(1, rounds + 1):
        for _ in range(STEPS * NODES):
            learner.step()
        learner.samples_seen = learner.round_samples
        if done % every == 0 or done == rounds:
            learner.model.eval()
            with torch.no_grad():
                points.append(Point(_tokens(task, done), task.evaluate(learner.model)["loss"]))
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
            points.append(Point(_tokens(task, done), learners[0].evaluate(averaged=True)["loss"]))
    equal = len({learner.replica.digest() for learner in learners}) == 1
    return Course(tuple(points), 2 * (NODES - 1) * fmean(sizes), equal)


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
    own, rest = parser.parse_known_args(given)
    options = arguments(__doc__ or "", rest)
    torch.set_num_threads(1)
    report = Report("charlm", options)
    rounds, seeds = (6, (0,)) if options.quick else (60, (0,))
    every = max(1, rounds // 20)
    task = CharLM()
    rows, ratios, shares, equal = [], [], [], []
    for seed in seeds:
        one, many = alone(task, rounds, seed, every), swarm(task, rounds, seed, every)
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
    report.target("loss of four nodes to that of one, worst seed", max(ratios), "at most", 1.05)
    report.target("FedAvg's bytes in a round to a node's", min(shares), "at least", 100)
    report.target("runs that ended bit-identical", sum(equal), "at least", len(equal))
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
