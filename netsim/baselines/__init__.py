"""What a swarm is measured against, in the same harness: solo, FedAvg, DiLoCo, pairwise averaging and NoLoCo.

The same nodes with the same shards, batches and local steps as the engine gives them, but in step and undisturbed: no
churn, no loss, no delay, no attackers, and no protocol around the weights. So they are what an ideal network would
allow, not what these methods would reach under the scenario's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from netsim.baselines.methods import DiLoCo, FedAvg, Method, NoLoCo, Pairwise, Solo, Weights
from netsim.crew import Crew
from netsim.errors import ScenarioError
from netsim.memory import peak
from netsim.result import Look, Result, digest
from netsim.scenario import Scenario
from netsim.workloads import crew as make_crew
from netsim.workloads.images import Images, Pupil

Progress = Callable[[float, Look], None]
"""Told, at every look, which part of the run is over (0 to 1) and what was seen."""


def method(engine: str, start: Weights, nodes: int, seed: int) -> Method:
    """The method of this name for so many nodes that start at float32[D]."""
    rng = np.random.default_rng((seed, nodes))
    makers: dict[str, Callable[[], Method]] = {
        "solo": Solo,
        "fedavg": FedAvg,
        "diloco": lambda: DiLoCo(start),
        "pairwise": lambda: Pairwise(rng),
        "noloco": lambda: NoLoCo(start, nodes, rng),
    }
    if engine not in makers:
        raise ScenarioError(f"{engine!r} is no baseline: set run.engine to one of {', '.join(makers)}")
    return makers[engine]()


def run(name: str, scenario: Scenario, seed: int, progress: Progress | None = None) -> Result:
    """Run the baseline that ``run.engine`` names.

    Args:
        name: what to call it in the result.
        scenario: of which the nodes, their speeds, the workload and the time count. Attackers stay away.
        seed: of all that is random; the same one gives the same result to the bit.
        progress: told how it goes.

    Raises:
        ScenarioError: the engine is none of these, or the workload is not an image task.
    """
    began = time.perf_counter()
    crew: Crew[Any] = make_crew(scenario, seed)
    if not isinstance(crew, Images):
        raise ScenarioError("the baselines train image tasks only: set workload.kind to images")
    groups = [group for group in scenario.nodes for _ in range(group.count)]
    honest = [number for number, group in enumerate(groups) if group.attack is None]
    pupils = [crew.trainer(number) for number in honest]
    slot, most = crew.genesis.slot_seconds, crew.genesis.round_steps or math.inf
    steps = [int(min(most, max(1, groups[number].speed * slot))) for number in honest]
    weights = np.stack([pupil.weights() for pupil in pupils])
    mixing = method(scenario.run.engine, weights[0].copy(), len(pupils), seed)
    traffic = np.zeros((len(pupils), 2))
    looks: list[Look] = []
    rounds = max(1, int(scenario.run.seconds / slot))
    every = max(1, round(scenario.run.evaluate / slot))
    for done in range(1, rounds + 1):
        for pupil, due in zip(pupils, steps, strict=True):
            pupil.advance(due)
        weights = np.stack([pupil.weights() for pupil in pupils])
        traffic += mixing.mix(weights)
        for pupil, row in zip(pupils, weights, strict=True):
            pupil.set_weights(row)
        if done % every == 0 or done == rounds:
            looks.append(_look(crew, pupils, weights, traffic, done * slot))
            if progress is not None:
                progress(done / rounds, looks[-1])
    summary = _summary(looks, traffic, rounds)
    costs = {"seconds": time.perf_counter() - began, "memory": peak(), "events": float(rounds), "cpu_per_node": 0.0}
    named = digest(scenario, seed, tuple(looks), summary)
    return Result(name, scenario, seed, "simulated", tuple(looks), summary, named, costs)


def _look(crew: Images, pupils: Sequence[Pupil], weights: Weights, traffic: np.ndarray, moment: float) -> Look:
    scores = crew.scores_of(weights)
    mean = weights.mean(axis=0, dtype=np.float64)
    squares = [float(np.sum((row - mean) ** 2)) for row in weights]
    norm = float(np.linalg.norm(mean))
    return Look(
        time=moment,
        live=len(pupils),
        accuracy=math.fsum(score.accuracy for score in scores) / len(scores),
        worst=min(score.accuracy for score in scores),
        loss=math.fsum(score.loss for score in scores) / len(scores),
        consensus=math.sqrt(math.fsum(squares) / len(squares)) / norm if norm else 0.0,
        staleness=0.0,
        sent=float(traffic[:, 0].mean()),
        received=float(traffic[:, 1].mean()),
        updates=0.0,
    )


def _summary(looks: Sequence[Look], traffic: np.ndarray, rounds: int) -> dict[str, float]:
    last = looks[-1]
    falls = [100 * (a.accuracy - b.accuracy) for a, b in pairwise(looks)]
    return {
        "accuracy": last.accuracy,
        "worst": last.worst,
        "loss": last.loss,
        "consensus": last.consensus,
        "identical": float(last.consensus == 0.0),
        "live": float(last.live),
        "updates": 0.0,
        "sent": last.sent,
        "received": last.received,
        "bytes": last.sent + last.received,
        "bytes_most": float(traffic.sum(axis=1).max()),
        "rounds": float(rounds),
        "staleness": 0.0,
        "lost_accuracy": max([0.0, *falls]),
    }
