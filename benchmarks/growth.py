"""What does a node pay as the swarm grows? `python -m benchmarks.growth`.

The simulator with the quadratic workload, N = 4 to 1,000 equal nodes on home lines, nobody comes or goes: bytes and
processor time of a node for an hour, and the time until the loss is below a bound. Everybody's updates go to everybody,
so that both grow with N; from the figures follows at which N a node at home pays more than a stated budget, which is
where another engine should take over that gives a node a few others' models instead of everybody's updates.

Processor time is that of the coordinators (`time.process_time`, sampled), and what opening the envelopes takes, which
the simulator does once for all nodes and a daemon for each message: it is measured here, on envelopes of this run.
A daemon's sockets, disk and encryption come on top, and grow in the same way.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from nacl.signing import SigningKey

from benchmarks.report import Report, arguments
from learnae import wire
from netsim.result import Look
from netsim.scenario import Nodes, Run, Scenario, Workload
from netsim.sim import simulate
from netsim.sim.simulation import Simulation

COUNTS, QUICK = (4, 10, 30, 100, 300, 1000), (4, 10, 30, 60)
SLOT, ROUNDS = 60.0, 6
BOUND = 0.3
"""Loss below which the swarm has arrived: it starts at 0.67, and four nodes can reach 0.1."""
HEARD = 2.0
"""Heartbeats a second that a node is to hear: a period of 2 s, the default, up to four nodes, and N / 2 s beyond."""
TICK = 10.0
"""Seconds between two ticks of a coordinator, besides those in which heartbeats are due; the daemon's are 0.25."""
BYTES, PROCESSOR = 50e6, 36.0
"""The budget of a node at home, for an hour: 50 MB both ways (36 GB a month), and one percent of a core."""
PLOT = Path("docs/images/growth")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run of N nodes was like."""

    nodes: int
    size: float
    """Bytes of a node, sent and received, in an hour."""
    processor: float
    """Seconds of processor time of a node's coordinator in an hour, envelopes included."""
    arrived: float
    """Minutes until the loss was below the bound."""
    identical: bool
    took: float
    """Seconds that the run itself took, of one core."""


def scenario(nodes: int) -> Scenario:
    """N equal nodes at home."""
    heartbeat = max(2.0, nodes / HEARD)
    return Scenario(
        purpose="What a node pays in a swarm of this size.",
        run=Run(seconds=SLOT * ROUNDS, quiet=3 * SLOT, evaluate=SLOT / 4, tick=TICK),
        workload=Workload(kind="quadratic", slot_seconds=SLOT, spread=0.2, noise=0.1),
        nodes=(Nodes(count=nodes, link="home", speed=0.2),),
        codec={"density": 0.25},
        settings={"heartbeat": heartbeat, "expiry": 4 * heartbeat, "glance": TICK},
    )


def opening(envelopes: int = 400) -> float:
    """Seconds of processor time to open an envelope with an update such as these runs have."""
    key = SigningKey(bytes(32))
    made = []
    for seq in range(1, envelopes + 1):
        update = wire.Update(bytes(32), seq, seq, None, 12, 0.1, 1.0, 0.5, bytes(60), ())
        made.append(wire.seal(update, lambda data: key.sign(data).signature, bytes(key.verify_key)))
    began = time.process_time()
    for envelope in made:
        wire.open_envelope(wire.Update, envelope)
    return (time.process_time() - began) / envelopes


def measure(nodes: int, seed: int, each: float) -> Cost:
    """One run; `each`: seconds to open an envelope."""
    simulation = Simulation(f"{nodes} nodes", scenario(nodes), seed)
    began = time.process_time()
    result = simulation.run()
    took = time.process_time() - began
    hours = (SLOT * ROUNDS) / 3600
    training = [look for look in result.looks if look.time <= SLOT * ROUNDS]
    whole = (SLOT * (ROUNDS + 3)) / 3600
    opened = simulation.network.published * each / whole
    return Cost(
        nodes,
        size=_traffic(training[-1]) / hours,
        processor=result.costs["cpu_per_node"] / whole + opened,
        arrived=next((look.time / 60 for look in training if look.loss < BOUND), math.nan),
        identical=bool(result.summary["identical"]),
        took=took,
    )


def _traffic(look: Look) -> float:
    return look.sent + look.received


def exponent(costs: Sequence[Cost], figure: str) -> float:
    """The power of N with which a figure grows over the largest swarms."""
    known = [cost for cost in costs if cost.nodes >= 30] if len(costs) > 3 else list(costs)
    x, y = (np.log([getattr(cost, name) for cost in known]) for name in ("nodes", figure))
    return float(np.polyfit(x, y, 1)[0])


def crossing(costs: Sequence[Cost], figure: str, budget: float) -> float:
    """The N at which a figure reaches the budget: between two runs, or beyond the last by its power of N there."""
    points = [(cost.nodes, float(getattr(cost, figure))) for cost in costs]
    for (n, cost), (m, more) in pairwise(points):
        if more >= budget > 0:
            return n * math.pow(m / n, math.log(max(budget / cost, 1.0)) / math.log(more / cost))
    n, cost = points[-1]
    return n * math.pow(budget / cost, 1.0 / exponent(costs, figure))


def plot(costs: Sequence[Cost], path: Path) -> list[Path]:
    """Three panels over N."""
    from netsim import plots

    panels = (
        ("MB of a node in an hour", [cost.size / 1e6 for cost in costs], BYTES / 1e6),
        ("processor s of a node in an hour", [cost.processor for cost in costs], PROCESSOR),
        (f"minutes to a loss of {BOUND}", [cost.arrived for cost in costs], None),
    )
    x = [cost.nodes for cost in costs]
    style = next(plots.styles())
    with plots.canvas(13.2, 3.8) as figure:
        for place, (words, values, budget) in enumerate(panels, 1):
            axes = figure.add_subplot(1, len(panels), place)
            axes.plot(x, values, marker="o", markersize=4, linewidth=1.5, **style)
            axes.set_xscale("log")
            axes.set_xticks(x, [str(count) for count in x])
            axes.minorticks_off()
            axes.set(xlabel="nodes", ylabel=words)
            if budget is not None:
                axes.set_yscale("log")
                axes.axhline(budget, color=plots.INK, linestyle=":", linewidth=1.2)
                axes.annotate("budget", (x[0], budget), xytext=(0, 3), textcoords="offset points", fontsize=8)
            else:
                axes.set_ylim(bottom=0.0)
        return plots.save(figure, path)


def rows(costs: Sequence[Cost]) -> list[dict[str, Any]]:
    """The table."""
    return [
        {
            "nodes": cost.nodes,
            "heartbeat s": scenario(cost.nodes).settings["heartbeat"],
            "MB/h of a node": cost.size / 1e6,
            "processor s/h of a node": cost.processor,
            f"minutes to {BOUND}": cost.arrived,
            "identical": cost.identical,
            "run took, s": cost.took,
        }
        for cost in costs
    ]


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, plot, compare with the targets."""
    options = arguments(__doc__ or "", given)
    report = Report("growth", options)
    simulate("warm", scenario(2), 0)
    each = opening()
    report.note(f"opening an envelope takes {1e6 * each:.0f} us of one core")
    costs = []
    for nodes in QUICK if options.quick else COUNTS:
        costs.append(measure(nodes, 0, each))
        report.note(", ".join(f"{key} {value:.4g}" for key, value in rows(costs)[-1].items()))
    report.table(f"{ROUNDS} rounds of {SLOT:g} s", rows(costs))
    report.table(
        "Where the budget ends",
        [
            {
                "figure": words,
                "grows with N to the power of": exponent(costs, figure),
                "budget for an hour": budget,
                "reached at N": crossing(costs, figure, budget),
            }
            for words, figure, budget in (("bytes", "size", BYTES), ("processor s", "processor", PROCESSOR))
        ],
    )
    if not options.quick:
        report.note(f"plots: {', '.join(map(str, plot(costs, PLOT)))}")
    report.target("all live replicas equal after quiet", min(cost.identical for cost in costs), "at least", 1)
    arrived = [cost.arrived for cost in costs]
    report.target("time to accuracy, most over least", max(arrived) / min(arrived), "at most", 2.0)
    report.target("bytes grow with N to the power of", exponent(costs, "size"), "at most", 1.2)
    report.target("processor time grows with N to the power of", exponent(costs, "processor"), "at most", 1.3)
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
