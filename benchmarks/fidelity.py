"""Does the simulator tell the truth? `python -m benchmarks.fidelity`.

Three shipped scenarios with eight nodes, each simulated and run with real daemons in network namespaces, from the same
file and with the same seeds: the same split of the data, speeds, comings and goings. How long a daemon takes to start
is measured in the real run, and told the simulator. Bytes are whole Ethernet frames in both: read off the interfaces
of the daemons, added up by the simulator. Takes as long as the scenarios say; real runs are kept in build/fidelity, so
that it goes on where it was.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks import runs
from benchmarks.report import Report, arguments
from netsim import real, scenario
from netsim import result as results
from netsim.errors import ResultError
from netsim.report import settings
from netsim.result import Look, Result
from netsim.scenario import Scenario
from netsim.sim import simulate

NODES = 8
SCENARIOS = ("lan-lab", "home-links", "partition-and-heal")
LONG = {"run.seconds": 150.0}  # what the small version is made longer by, where it is shorter
KEPT = Path("build/fidelity")
POINTS, PART = 1.5, 15.0  # bounds on the differences: of the accuracy in points, of the bytes in percent
MOMENTS = (0.1, 0.25, 0.5, 0.75, 1.0)  # parts of a run at which both are laid side by side


def load(name: str, **more: float) -> Scenario:
    """The small version of a scenario, with eight nodes and at least 30 rounds; `more`: other settings of the run."""
    changes = {"nodes.0.count": NODES, **LONG, **{f"run.{key}": value for key, value in more.items()}}
    return scenario.load(name, changes, small=True)


def reality(name: str, what: Scenario, seed: int) -> Result:
    """A run with daemons, or the one that is kept."""
    path = KEPT / f"{name}.{seed}.json"
    with contextlib.suppress(ResultError):
        kept = results.read(path)
        if settings(kept.scenario) == settings(what):
            return kept
    made = real.run(name, what, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    results.write(made, path)
    return made


def like(name: str, seen: Result) -> Scenario:
    """The scenario, with daemons that take as long to start as the real ones did on this machine."""
    boot = seen.costs.get("boot")
    return load(name) if boot is None else load(name, boot=boot)


def figures(result: Result) -> dict[str, Any]:
    """A row of the table."""
    found = result.summary
    return {
        "kind": result.kind,
        "seed": result.seed,
        "accuracy %": 100 * found["accuracy"],
        "worst %": 100 * found["worst"],
        "kB/node": found["bytes"] / 1e3,
        "most kB": found["bytes_most"] / 1e3,
        "rounds": found["rounds"],
        "updates": found["updates"],
        "live": found["live"],
        "identical": found["identical"],
        "boot s": result.costs.get("boot", result.scenario.run.boot),
        "seconds": result.costs["seconds"],
    }


def course(simulated: Result, seen: Result) -> list[dict[str, Any]]:
    """Both at the same moments."""
    rows = []
    end = simulated.scenario.run.seconds
    for part in MOMENTS:
        here, there = (at(result.looks, part * end) for result in (simulated, seen))
        rows.append(
            {
                "second": there.time,
                "simulated %": 100 * here.accuracy,
                "real %": 100 * there.accuracy,
                "simulated kB": (here.sent + here.received) / 1e3,
                "real kB": (there.sent + there.received) / 1e3,
            }
        )
    return rows


def at(looks: Sequence[Look], moment: float) -> Look:
    """The look nearest to a moment."""
    return min(looks, key=lambda look: abs(look.time - moment))


def differences(simulated: Sequence[Result], seen: Sequence[Result]) -> tuple[float, float]:
    """By how many points the accuracies, and by how many percent the bytes differ, each the mean over the seeds."""
    accuracy, size = (
        [fmean(result.summary[key] for result in runs) for runs in (simulated, seen)] for key in ("accuracy", "bytes")
    )
    return 100 * abs(accuracy[0] - accuracy[1]), 100 * abs(size[0] / size[1] - 1)


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the targets."""
    options = arguments(__doc__ or "", given)
    if reason := runs.needs_lab():
        print(reason, file=sys.stderr)
        return 2
    torch.set_num_threads(1)  # as the daemons' trainers
    report = Report("fidelity", options)
    seeds = (0,) if options.quick else (0, 1)
    for name in SCENARIOS:
        seen = [reality(name, load(name), seed) for seed in seeds]
        simulated = [simulate(name, like(name, run), run.seed) for run in seen]
        report.table(f"{name}, {NODES} nodes", [figures(result) for result in (*simulated, *seen)])
        report.table(f"{name}: seed {seeds[0]} as it went", course(simulated[0], seen[0]))
        points, part = differences(simulated, seen)
        report.target(f"{name}: accuracy, simulated and real, apart", points, "at most", POINTS, "points")
        report.target(f"{name}: bytes, simulated and real, apart", part, "at most", PART, "%")
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
