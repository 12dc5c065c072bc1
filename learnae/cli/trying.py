"""`learnae demo`: a whole swarm on this PC."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from learnae.tasks import BUILT_IN

_TASK_HELP = f"What to train: {', '.join(BUILT_IN)}, or file.py:Class."


@click.command(short_help="Train with a whole swarm on this PC.")
@click.option("--nodes", type=click.IntRange(1, 64), default=4, show_default=True, help="Daemons to start.")
@click.option("--task", default="digits", show_default=True, metavar="SPEC", help=_TASK_HELP)
@click.option(
    "--skew", type=click.FloatRange(0.001, 1e6), default=0.3, show_default=True, metavar="ALPHA",
    help="How the data is split: Dirichlet alpha; smaller is more uneven.",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(1, 86400), default=40, show_default=True,
    help="Training time, from the moment when all nodes train.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the nodes' random draws.")
@click.option("--json", "report", type=click.Path(dir_okay=False, path_type=Path), help="Write the result here too.")
@click.option("--keep", is_flag=True, help="Keep the nodes' directories, logs included.")
def demo(nodes: int, task: str, skew: float, seconds: float, seed: int, report: Path | None, keep: bool) -> None:
    """Train with a swarm of daemons on this PC, and compare with training alone.

    Each node is a process of its own with its own part of the data. They find each other without being told any
    address, and at the end all hold the same weights, to the bit. Nothing leaves this PC.

    Ends with 1 if the nodes' weights differ or a node failed.
    """
    from learnae.cli.demo import Options, run

    sys.exit(run(Options(nodes=nodes, task=task, skew=skew, seconds=seconds, seed=seed, report=report, keep=keep)))
