"""The `learnae` command: watch and steer the daemons of this PC, and try a whole swarm on it with `learnae demo`."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import click

from learnae import __version__
from learnae.errors import ConfigError, LearnaeError
from learnae.home import default_home
from learnae.tasks import BUILT_IN

if TYPE_CHECKING:
    from learnae.cli.daemons import Daemon

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

_EPILOG = """\b
Exit codes:
  0    done
  1    an error: no daemon runs, it refused, or the demo's nodes disagree
  2    the command line is wrong
  130  ended by Ctrl+C
  143  ended by SIGTERM (demo)"""

_TASK_HELP = f"What to train: {', '.join(BUILT_IN)}, or file.py:Class."

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Group(click.Group):
    """Shows learnae's own errors as one block, without a traceback, and ends with 130 on Ctrl+C."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LearnaeError as error:
            text = str(error) or type(error).__name__
            click.echo(textwrap.fill(text, 100, initial_indent="learnae: ", subsequent_indent="  "), err=True)
            ctx.exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_ERROR)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(__version__, message="learnae %(version)s")
def cli() -> None:
    """Watch and steer the learnae daemons of this PC.

    \b
    See a swarm of four train here, in about a minute:
      learnae demo
    Join one for real:
      learnaed run --topic hello --task digits
    Then, in another terminal:
      learnae status
      learnae finish
    """


def _where(command: _Command) -> _Command:
    home = click.option(
        "--home", type=click.Path(path_type=Path), envvar="LEARNAE_HOME", help="Directory that holds the profiles."
    )
    return click.option("--profile", metavar="NAME", help="Only the daemon of this profile.")(home(command))


@cli.command()
@_where
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, one line a daemon.")
def status(home: Path | None, profile: str | None, as_json: bool) -> None:
    """What every daemon here is doing."""
    from learnae.cli import daemons, tables

    answers = [daemon.get("/api/status") for daemon in daemons.select(home or default_home(), profile)]
    for place, answer in enumerate(answers):
        if as_json:
            click.echo(json.dumps(answer))
            continue
        if place:
            click.echo()
        tables.show_status(answer)


@cli.command()
@_where
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, one line a daemon.")
def peers(home: Path | None, profile: str | None, as_json: bool) -> None:
    """Whom every daemon here knows, and what keeps it from merging with someone."""
    from learnae.cli import daemons, tables

    for daemon in daemons.select(home or default_home(), profile):
        answer = daemon.get("/api/peers")
        if as_json:
            click.echo(json.dumps({"profile": daemon.profile, "peers": answer}))
        else:
            tables.show_peers(daemon, answer)


def _verb(name: str, text: str) -> None:
    @cli.command(name, help=text)
    @_where
    @click.option("--all", "everyone", is_flag=True, help="Every daemon that runs here.")
    def command(home: Path | None, profile: str | None, everyone: bool) -> None:
        from learnae.cli import daemons

        if everyone and profile:
            raise click.UsageError("--profile names one daemon and --all means every one: give one of the two.")
        found = daemons.select(home or default_home(), profile)
        if len(found) > 1 and not everyone:
            names = ", ".join(daemon.profile for daemon in found)
            raise click.UsageError(f"{len(found)} daemons run here: {names}. Say --profile NAME, or --all.")
        for daemon in found:
            daemon.command(name)
            click.echo(f"{daemon.profile}: {name} accepted")


_verb("finish", "Complete the round, publish it, let the swarm settle, and end.")
_verb("pause", "Stop training; updates are still stored, merged and served.")
_verb("resume", "Train again after a pause.")
_verb("stop", "End now, within seconds; the next start goes on from the state that is kept.")


def _one(home: Path | None, profile: str | None) -> Daemon:
    from learnae.cli import daemons

    found = daemons.select(home or default_home(), profile)
    if len(found) > 1:
        names = ", ".join(daemon.profile for daemon in found)
        raise click.UsageError(f"{len(found)} daemons run here: {names}. Say --profile NAME.")
    return found[0]


@cli.command()
@_where
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, one line a daemon.")
def snapshots(home: Path | None, profile: str | None, as_json: bool) -> None:
    """The cuts of the swarm that are kept here: what they hold, and who attests them."""
    from learnae.cli import daemons, tables

    for daemon in daemons.select(home or default_home(), profile):
        answer = daemon.get("/api/snapshots")
        if as_json:
            click.echo(json.dumps({"profile": daemon.profile, "snapshots": answer}))
        else:
            tables.show_snapshots(daemon, answer)


@cli.command()
@click.argument("cid")
@_where
def pin(cid: str, home: Path | None, profile: str | None) -> None:
    """Keep the cut CID until it is unpinned; fetch it from peers or from IPFS if it is not here."""
    from learnae.cli import daemons

    row = _one(home, profile).post(f"/api/snapshots/{quote(cid, safe='')}/pin", daemons.LONG)
    click.echo(f"pinned: cut {row['index']}, {row['updates']} updates, {row['size']} bytes")


@cli.command()
@click.argument("cid")
@_where
def unpin(cid: str, home: Path | None, profile: str | None) -> None:
    """Take a pin back; the cut goes when the swarm needs it no more."""
    _one(home, profile).post(f"/api/snapshots/{quote(cid, safe='')}/unpin")
    click.echo("unpinned")


@cli.command()
@click.argument("names", nargs=-1, required=True, metavar="[CID] FILE")
@_where
@click.option("--task", metavar="SPEC", help="Task whose model this is.  [default: the daemon's]")
@click.option("--data", type=click.Path(path_type=Path), help="Directory with the task's data files.")
@click.option("--car", is_flag=True, help="Write the cut itself as a CAR file, for `learnae import` and for IPFS.")
def export(
    names: tuple[str, ...], home: Path | None, profile: str | None, task: str | None, data: Path | None, car: bool
) -> None:
    """Write the model of the cut CID, or of the newest one, to FILE: float32 tensors, as safetensors.

    With a model that has BatchNorm layers their statistics are estimated anew on the task's local data: they are no
    part of what the swarm shares.
    """
    from learnae.cli import exporting

    if len(names) > 2:
        raise click.UsageError("give the CID of a cut, or none, and one FILE.")
    cid, file = names[0] if len(names) == 2 else None, Path(names[-1])
    if car and (task or data):
        raise click.UsageError("--task and --data are for models: a CAR file has what is on the disk.")
    found = exporting.locate(home or default_home(), profile, cid)
    if car:
        click.echo(f"wrote {file}: {exporting.write_car(found, file)} bytes of {found.cid}")
        return
    size = exporting.write(found, file, task or found.task, data or found.data)
    click.echo(f"wrote {file}: {size} weights of {found.cid}")


@cli.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path))
@_where
def import_(file: Path, home: Path | None, profile: str | None) -> None:
    """Take the cut or the snapshot in FILE in and pin it: a CAR file, or a snapshot as safetensors."""
    from learnae.cli import daemons

    found = _one(home, profile).post(f"/api/import?path={quote(str(file), safe='')}", daemons.LONG)
    what = "a snapshot" if found["index"] is None else f"cut {found['index']}"
    click.echo(f"pinned: {what}, {found['size']} bytes, {found['cid']}")


@cli.command()
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


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"learnae {__version__}")


def main() -> None:
    """Entry point of the `learnae` script."""
    cli(prog_name="learnae")
