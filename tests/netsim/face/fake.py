"""Engines that make up their figures at once, from the scenario and the seed; they stand in for the real ones."""

from __future__ import annotations

import math
import os
import random
import threading
from collections.abc import Callable

from netsim.errors import NetsimError
from netsim.result import Look, Result, digest
from netsim.scenario import Scenario

HERE = "tests.netsim.face.fake"


def simulate(name: str, scenario: Scenario, seed: int, progress: Callable[..., None] | None = None) -> Result:
    draw = random.Random(f"{name} {seed} {scenario.run.engine}")
    nodes = sum(group.count for group in scenario.nodes)
    density = scenario.codec.get("density", 0.02)
    judged = scenario.workload.kind == "images"
    count = int((scenario.run.seconds + scenario.run.quiet) / scenario.run.evaluate)
    looks = []
    for number in range(count + 1):
        share = number / count
        accuracy = 0.1 + (0.86 + density) * (1 - math.exp(-6 * share)) + draw.gauss(0, 0.01) if judged else math.nan
        sent = 1e6 * share * nodes * density
        looks.append(
            Look(
                time=number * scenario.run.evaluate,
                live=nodes,
                accuracy=accuracy,
                worst=accuracy - 0.01,
                loss=math.exp(-4 * share),
                consensus=0.1 * math.exp(-5 * share) * (share < 1),
                staleness=math.nan if number == 0 else 0.2 + 0.05 * draw.random(),
                sent=sent,
                received=1.1 * sent,
                updates=float(nodes * number),
            )
        )
        if progress:
            progress(share, looks[-1])
    last = looks[-1]
    summary = {
        "accuracy": last.accuracy,
        "worst": last.worst,
        "loss": last.loss,
        "consensus": last.consensus,
        "identical": 1.0,
        "live": float(nodes),
        "bytes": last.sent + last.received,
        "rounds": float(count),
        "staleness": last.staleness,
    }
    made = digest(scenario, seed, tuple(looks), summary)
    return Result(
        name, scenario, seed, "simulated", tuple(looks), summary, made, {"seconds": 1.5, "memory": float(os.getpid())}
    )


def threads(name: str, scenario: Scenario, seed: int, progress: Callable[..., None] | None = None) -> Result:
    """Says with how many threads it may calculate."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise NetsimError("there may be several threads")
    return simulate(name, scenario, seed)


def refuse(name: str, scenario: Scenario, seed: int, progress: Callable[..., None] | None = None) -> Result:
    raise NetsimError("the fake engine is out of order: use another")


def fail(name: str, scenario: Scenario, seed: int, progress: Callable[..., None] | None = None) -> Result:
    raise ZeroDivisionError("by nothing")


def die(name: str, scenario: Scenario, seed: int, progress: Callable[..., None] | None = None) -> Result:
    os._exit(3)


def hang(name: str, scenario: Scenario, seed: int, progress: Callable[..., None] | None = None) -> Result:
    if progress:
        progress(0.5)
    while True:
        threading.Event().wait()
