"""The commands `learnae task new` and `learnae task check`."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path

import click

from learnae.cli.common import EXIT_ERROR, UsageError, as_lines


@click.group()
def task() -> None:
    """Write a task of your own, and try it before you join a swarm.

    \b
    learnae task new pets                  writes pets.py, commented, which runs as it is
    learnae task check pets.py:Pets        tries it here: shapes, a few steps, speed, traffic
    learnaed run --topic pets --task pets.py:Pets
    """


@task.command(short_help="Write a commented task file.")
@click.argument("name")
@click.option("--force", is_flag=True, help="Overwrite the file.")
def new(name: str, force: bool) -> None:
    """Write NAME.py, a commented task that runs as it is, into this directory."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name) or keyword.iskeyword(name):
        raise UsageError(
            f"{name!r} cannot be the name of a task: use small letters, digits and _, as in my_task",
            code="bad-arguments",
        )
    path = Path(f"{name}.py")
    if path.exists() and not force:
        raise UsageError(
            f"{path} is there already: choose another name, or overwrite it with --force", code="bad-arguments"
        )
    kind = "".join(part.capitalize() for part in name.split("_"))
    template = files("learnae.cli.task").joinpath("template.txt").read_text(encoding="utf-8")
    path.write_text(template.replace("TASK_NAME", name.replace("_", "-")).replace("TaskName", kind), encoding="utf-8")
    click.echo(f"{path} is written. Try it: learnae task check {path}:{kind}")


@task.command(short_help="Try a task before joining a swarm.")
@click.argument("spec")
@click.option("--data", type=click.Path(path_type=Path), help="Directory with the task's data files.")
@click.option("--shard", default="1/1", show_default=True, metavar="K/N", help="The part of the data to try it on.")
@click.option(
    "--seconds", type=click.FloatRange(0.1, 3600), default=5.0, show_default=True, help="How long to try local steps."
)
@as_lines
@click.pass_context
def check(ctx: click.Context, spec: str, data: Path | None, shard: str, seconds: float, as_json: bool) -> None:
    """Try the task SPEC, a built-in name or file.py:Class, without any network.

    Builds the model twice, draws batches, does local steps for a while, encodes a round, adds it to a second replica,
    and evaluates: a verdict a line, and what to do about it. Errors in your code are shown with their traceback. Ends
    with 1 if something would not work in a swarm.
    """
    from learnae.cli.doctor import printing
    from learnae.cli.doctor.verdict import Level
    from learnae.cli.task.trial import Trial

    trial = Trial(spec, data, shard, seconds)
    verdicts = []
    if as_json:
        verdicts = list(trial.verdicts())
        click.echo(printing.as_json({"task": spec}, verdicts))
    else:
        for verdict in trial.verdicts():
            verdicts.append(verdict)
            printing.show_one(verdict)
        if trial.traceback:
            click.echo(f"\n{trial.traceback}", err=True, nl=False)
    ctx.exit(EXIT_ERROR if any(verdict.level is Level.FAIL for verdict in verdicts) else 0)
