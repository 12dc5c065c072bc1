"""A baseline's run: everybody in step, nobody ever away, no network; beside the swarm's in report and plots."""

from __future__ import annotations

import math
import resource
import sys
import time
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from learnae.learner import Learner
from learnae.model import gather, scatter
from learnae.task import Shard, load_task
from netsim import result
from netsim.baselines.rules import DiLoCo, FedAvg, NoLoCo, Pairwise, Rule, Solo, Weights
from netsim.errors import ScenarioError
from netsim.result import Look, Result
from netsim.scenario import Scenario
from netsim.sim.simulation import Progress

_JUDGES = 8
"""Nodes whose weights are evaluated where they differ."""


def run(name: str, scenario: Scenario, seed: int, progress: Progress | None = None) -> Result:
    """Train the scenario's workload with the engine that it names, in rounds of one slot.

    Groups, links, churn and happenings do not matter: a baseline gets ideal conditions. ``seed`` as in the simulator:
    the same split, and the same batches for each node.

    Raises:
        ScenarioError: there is no such baseline, or it cannot train this workload.
    """
    began = time.perf_counter()
    torch.set_num_threads(1)
    learners = _learners(scenario, seed)
    task = learners[0].task
    slot = scenario.workload.slot_seconds or float(task.slot_seconds)
    steps = scenario.workload.round_steps or task.round_steps or max(1, int(slot * scenario.nodes[0].speed))
    start = gather(learners[0].model)
    rule = _rule(scenario, start, len(learners), seed)
    weights = np.repeat(start[None], len(learners), axis=0)
    rounds = max(1, int(scenario.run.seconds // slot))
    every = max(1, round(scenario.run.evaluate / slot))
    judges = sorted({len(learners) * judge // _JUDGES for judge in range(_JUDGES)})
    looks: list[Look] = []
    sent = 0.0
    for done in range(1, rounds + 1):
        for learner, row in zip(learners, weights, strict=True):
            for _ in range(steps):
                learner.step()
            row[:] = gather(learner.model)
        sent += rule.exchange(weights)
        for learner, row in zip(learners, weights, strict=True):
            scatter(learner.model, row)
            learner.samples_seen = learner.round_samples if isinstance(rule, Solo) else _samples(learners)
        if done % every == 0 or done == rounds:
            looks.append(_look(learners, weights, judges, done * slot, sent))
            if progress is not None:
                progress(done / rounds, looks[-1])
    summary = _summary(looks, rounds, len(learners))
    seen = tuple(looks)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    costs = {"seconds": time.perf_counter() - began, "memory": float(peak if sys.platform == "darwin" else peak * 1024)}
    return Result(name, scenario, seed, "simulated", seen, summary, result.digest(scenario, seed, seen, summary), costs)


def _learners(scenario: Scenario, seed: int) -> list[Learner]:
    workload = scenario.workload
    if workload.kind != "images":
        raise ScenarioError(f"the engine {scenario.run.engine} trains images only: set workload.kind to images")
    task = load_task(workload.task, Path(workload.data) if workload.data else None)
    count = sum(group.count for group in scenario.nodes)
    shards = workload.shards or count
    return [
        Learner(task, Shard(number % shards, shards, workload.alpha, seed), seed=seed * 100_003 + number)
        for number in range(count)
    ]


def _samples(learners: list[Learner]) -> int:
    """That the swarm has learned from: no round of these learners ever ends."""
    return sum(learner.round_samples for learner in learners)


def _rule(scenario: Scenario, start: Weights, nodes: int, seed: int) -> Rule:
    match scenario.run.engine:
        case "solo":
            return Solo()
        case "fedavg":
            return FedAvg()
        case "diloco":
            return DiLoCo(start)
        case "pairwise":
            return Pairwise(seed)
        case "noloco":
            return NoLoCo(start, nodes, seed)
        case engine:
            raise ScenarioError(f"the engine {engine} is no baseline")


def _look(learners: list[Learner], weights: Weights, judges: list[int], now: float, sent: float) -> Look:
    """Exact weights: a baseline has no running average."""
    equal = bool((weights == weights[0]).all())
    task, found = learners[0].task, []
    for judge in judges[:1] if equal else judges:
        model = learners[judge].model
        model.eval()
        with torch.no_grad():
            found.append(task.evaluate(model))
    mean = weights.mean(axis=0, dtype=np.float64)
    spread = math.sqrt(fmean(float(np.sum((row - mean) ** 2)) for row in weights)) if not equal else 0.0
    accuracies = [figures.get("accuracy", math.nan) for figures in found]
    return Look(
        time=now,
        live=len(learners),
        accuracy=fmean(accuracies),
        worst=min(accuracies),
        loss=fmean(figures.get("loss", math.nan) for figures in found),
        consensus=spread / float(np.linalg.norm(mean)),
        staleness=math.nan,
        sent=sent,
        received=sent,
        updates=0.0,
    )


def _summary(looks: list[Look], rounds: int, nodes: int) -> dict[str, float]:
    last = looks[-1]
    falls = [100 * (before.accuracy - after.accuracy) for before, after in pairwise(looks)]
    return {
        "accuracy": last.accuracy,
        "worst": last.worst,
        "loss": last.loss,
        "consensus": last.consensus,
        "identical": float(last.consensus == 0.0),
        "live": float(nodes),
        "updates": 0.0,
        "sent": last.sent,
        "received": last.received,
        "bytes": last.sent + last.received,
        "bytes_most": last.sent + last.received,
        "rounds": float(rounds),
        "staleness": math.nan,
        "lost_accuracy": max([0.0, *falls]),
    }
