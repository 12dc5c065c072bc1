"""`netsim run` and `netsim real`: one scenario, simulated or with daemons."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from learnae.cli.common import EXIT_ERROR, example
from learnae.cli.tables import screen
from netsim import expect, jobs, report, scenario
from netsim.cli.common import changeable, keep, make, output, ready_to_draw, repeated, scenarios, show
from netsim.cli.watching import Watch
from netsim.errors import MissingError
from netsim.result import Result

_check = click.option("--check", is_flag=True, help="End with 1 if a figure is not what the scenario expects.")


@click.command(short_help="Simulate a scenario.")
@click.argument("name", metavar="SCENARIO", shell_complete=scenarios)
@changeable
@repeated
@output
@_check
def run(
    name: str,
    changes: dict[str, Any],
    small: bool,
    seeds: int,
    seed: int,
    processes: int,
    out: Path | None,
    as_json: bool,
    check: bool,
) -> None:
    """Simulate SCENARIO: the name of one that comes with netsim, or the path of a TOML file.

    Equal scenarios and seeds give equal results, to the bit, however many run at a time.
    """
    loaded = scenario.load(name, changes, small=small)
    ready_to_draw(out)
    title = scenario.title(name)
    found = make([jobs.Job(title, loaded, each) for each in range(seed, seed + seeds)], processes)
    _end(found, out, as_json, check)


example(
    run,
    "netsim run lan-lab --small",
    "netsim run partition-and-heal --seeds 5 --jobs 2 --out out --check",
    "netsim run home-links --set nodes.0.link.latency=0.2 --set run.engine=fedavg",
)


@click.command(short_help="Run a scenario with real daemons.")
@click.argument("name", metavar="SCENARIO", shell_complete=scenarios)
@changeable
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all random draws.")
@output
@_check
def real(
    name: str, changes: dict[str, Any], small: bool, seed: int, out: Path | None, as_json: bool, check: bool
) -> None:
    """Run SCENARIO with real daemons: a process each, in network namespaces of their own on this PC.

    The links get the scenario's rates and delays, and the report is that of `netsim run`, so that the model can be laid
    beside reality. Needs Linux, root and iproute2; takes as long as the scenario says.
    """
    from netsim.namespaces import unavailable

    loaded = scenario.load(name, changes, small=small)
    ready_to_draw(out)
    if reason := unavailable():
        raise MissingError(
            f"real daemons run in network namespaces, but {reason}. `netsim run` simulates the same scenario anywhere"
        )
    job = jobs.Job(scenario.title(name), loaded, seed, jobs.REAL)
    with Watch([job]) as watch:
        watch.started(0)
        result = jobs.engine(job.engine)(
            job.name, loaded, seed, lambda share, look=None: watch.progressed(0, share, look)
        )
        watch.finished(0, result)
    _end([result], out, as_json, check)


example(real, "sudo netsim real lan-lab --small", "sudo netsim real lan-lab --out real && netsim compare lan-lab real")


def _end(found: Sequence[Result], out: Path | None, as_json: bool, check: bool) -> None:
    groups = show(found, as_json)
    if not as_json:
        for line in report.expectations(found):
            screen().print(line)
    if out is not None:
        keep(found, groups, out)
    if check and any(expect.missed(result) for result in found):
        sys.exit(EXIT_ERROR)
