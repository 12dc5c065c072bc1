"""`netsim compare`: several scenarios, engines or finished runs in one table and one set of plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import click

from learnae.cli.common import example
from netsim import jobs, scenario
from netsim import result as results
from netsim.cli.common import changeable, keep, make, output, ready_to_draw, repeated, scenarios, show
from netsim.errors import ResultError
from netsim.result import Result

ENGINES: Final = get_args(scenario.Engine)


@click.command(short_help="Several scenarios, engines or results side by side.")
@click.argument("what", nargs=-1, required=True, metavar="A B...", shell_complete=scenarios)
@changeable
@repeated
@output
def compare(
    what: Sequence[str],
    changes: dict[str, Any],
    small: bool,
    seeds: int,
    seed: int,
    processes: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Put side by side, in one table and one set of plots, any of:

    \b
    - scenarios, by name or path: they are simulated
    - result files, or directories of them, from --out of other commands
    - engines: each scenario runs with each of them, beside its own
        ledger    learnae's own: updates summed by everybody
        fedavg    a server averages all models every round
        diloco    the same with outer momentum
        pairwise  random pairs average their models
        noloco    the same with outer momentum
        solo      nobody talks to anybody
    """
    ready_to_draw(out)
    wanted, found = _sorted_out(what, changes, small)
    made = make([jobs.Job(*each, number) for each in wanted for number in range(seed, seed + seeds)], processes)
    every = [*made, *found]
    groups = show(every, as_json)
    if out is not None:
        keep(every, groups, out)


example(
    compare,
    "netsim compare home-links fedavg pairwise noloco --seeds 3 --out out",
    "netsim compare lan-lab lossy-30 --small",
    "netsim compare before/ after/",
)


def _sorted_out(
    what: Sequence[str], changes: dict[str, Any], small: bool
) -> tuple[list[tuple[str, scenario.Scenario]], list[Result]]:
    """What is to be run (name and scenario), and what is there."""
    engines = [item for item in what if item in ENGINES]
    found = [result for item in what for result in _read(item)]
    named = [item for item in what if item not in engines and not _is_result(item)]
    if engines and not named:
        raise click.UsageError(f"{', '.join(engines)}: say with which scenario, as in: compare home-links fedavg")
    wanted = []
    for name in named:
        own = scenario.load(name, changes, small=small)
        for engine in dict.fromkeys([own.run.engine, *engines]):
            loaded = scenario.load(name, changes | {"run.engine": engine}, small=small)
            wanted.append((scenario.title(name), loaded))
    return wanted, found


def _is_result(item: str) -> bool:
    return item.endswith(".json") or (item not in scenario.names() and Path(item).is_dir())


def _read(item: str) -> Iterator[Result]:
    if not _is_result(item):
        return
    path = Path(item)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise ResultError(f"there is no result in {item}: give a directory that --out of another command has filled")
    yield from map(results.read, files)
