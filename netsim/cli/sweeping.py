"""`netsim sweep`: what a setting does, over a grid of its values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from learnae.cli.common import example
from learnae.cli.tables import screen
from netsim import jobs
from netsim.cli.common import changeable, pair, ready_to_draw, repeated, scenarios, values
from netsim.cli.watching import Watch


def _over(ctx: click.Context, param: click.Parameter, given: Sequence[str]) -> dict[str, list[Any]]:
    return {key: values(text) for key, text in map(pair, given)}


@click.command(short_help="What a setting does: a grid of its values.")
@click.argument("name", metavar="SCENARIO", shell_complete=scenarios)
@click.option(
    "--over", metavar="KEY=V1,V2...", multiple=True, required=True, callback=_over,
    help="Values of a key. Several --over: all combinations; the first is the plot's x axis, the others its lines.",
)  # fmt: skip
@changeable
@repeated
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True,
    help="Directory for the runs and the plot. Runs that are there already are not made again.",
)  # fmt: skip
@click.option(
    "--figure", "figures", metavar="NAME", multiple=True,
    help="A figure of the summary to plot (staleness, rounds, identical, ...). May be repeated. "
    "By default accuracy, or loss, and bytes.",
)  # fmt: skip
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path),
    help="Where the plot goes, without suffix. Default: OUT/sweep.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, one line a point.")
def sweep(
    name: str,
    over: dict[str, list[Any]],
    changes: dict[str, Any],
    small: bool,
    seeds: int,
    seed: int,
    processes: int,
    out: Path,
    figures: Sequence[str],
    plot: Path | None,
    as_json: bool,
) -> None:
    """Run SCENARIO at each point of a grid of settings, and show what they do to accuracy and traffic.

    May be ended with Ctrl+C and started again: it goes on where it was.
    """
    ready_to_draw(out)
    from netsim.sweep import Sweep

    grid = Sweep(name, over, out, changes=changes, small=small, seeds=range(seed, seed + seeds))
    missing = grid.open()
    if grid.found:
        click.echo(f"{len(grid.found)} runs are there already, {len(missing)} are to be made", err=True)

    with Watch(missing, grid.take) as watch:
        jobs.run(missing, processes, watch)
    if as_json:
        for row in grid.rows():
            click.echo(msgspec.json.encode(row).decode())
    else:
        console = screen()
        console.print(grid.table(console.width))
    drawn = grid.draw(plot or out / "sweep", figures)
    click.echo(f"the plot is {drawn[0]}", err=True)


example(
    sweep,
    "netsim sweep lan-lab --over codec.density=0.005,0.01,0.02,0.05 --seeds 3 --out density",
    "netsim sweep home-links --over codec.lr_outer=0.6,0.8,1.0 --over codec.mu=0.7,0.8,0.9 --out outer",
)
