"""`learnae limits`: what the daemons of this PC may use, shown and changed while they run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from learnae.cli import completing
from learnae.cli.common import UsageError, as_lines, example, found, one, where
from learnae.cli.words import clean


@click.group(invoke_without_command=True, short_help="What a daemon may use of this PC, and when.")
@where
@as_lines
@click.pass_context
def limits(ctx: click.Context, home: Path | None, profile: str | None, as_json: bool) -> None:
    """What a daemon may use of this PC, and when: processor, memory, disk, network, hours.

    Alone it shows them, as `learnae limits show` does.
    """
    ctx.obj = (home, profile, as_json)
    if ctx.invoked_subcommand is None:
        _show(home, profile, as_json)


@limits.command()
@where
@as_lines
@click.pass_context
def show(ctx: click.Context, home: Path | None, profile: str | None, as_json: bool) -> None:
    """Show the limits in force."""
    _show(*_with_outer(ctx, home, profile, as_json))


@limits.command("set", short_help="Change limits while the daemon runs.")
@click.argument("changes", nargs=-1, required=True, metavar="NAME=VALUE...", shell_complete=completing.limits)
@where
@as_lines
@click.pass_context
def set_(ctx: click.Context, changes: tuple[str, ...], home: Path | None, profile: str | None, as_json: bool) -> None:
    """Change limits while the daemon runs; those that are not named stay. All of them are changed, or none.

    NAME=off takes a limit back. `learnae limits show` names those that there are. The change lasts until the daemon
    ends; the table [limits] of the configuration file is for good.
    """
    home, profile, as_json = _with_outer(ctx, home, profile, as_json)
    wanted: dict[str, str] = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not (name and equals and value.strip()):
            raise UsageError(
                f"{change[:80]!r} is no change. Write NAME=VALUE, upload=200kB/s for instance.", code="bad-limit"
            )
        wanted[name.strip().replace("-", "_")] = value.strip()
    daemon = one(home, profile)
    answer = daemon.put("/api/limits", wanted)
    if as_json:
        click.echo(json.dumps({"profile": daemon.profile, "limits": answer}))
        return
    for name in wanted:
        click.echo(f"{daemon.profile}: {name} is now {in_words(answer.get(name))}")


def _show(home: Path | None, profile: str | None, as_json: bool) -> None:
    for daemon in found(home, profile):
        answer = daemon.get("/api/limits")
        if as_json:
            click.echo(json.dumps({"profile": daemon.profile, "limits": answer}))
        else:
            _print(daemon.profile, answer)


def _print(profile: str, answer: Mapping[str, Any]) -> None:
    from learnae.cli import tables

    table = Table(title=Text(f"{profile}: limits"), title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in answer.items():
        table.add_row(Text(clean(name, 40)), Text(in_words(value)))
    tables.screen().print(table)


def in_words(value: Any) -> str:
    """The value of a limit for people: none is "no limit"."""
    if value is None:
        return "no limit"
    if isinstance(value, bool):
        return "on" if value else "off"
    return clean(value if isinstance(value, (str, int, float)) else json.dumps(value), 120)


def _with_outer(
    ctx: click.Context, home: Path | None, profile: str | None, as_json: bool
) -> tuple[Path | None, str | None, bool]:
    """The options, wherever they stand: `learnae limits --json show` means what `learnae limits show --json` does."""
    outer_home, outer_profile, outer_json = ctx.obj
    return home or outer_home, profile or outer_profile, as_json or outer_json


example(
    limits,
    "learnae limits",
    "learnae limits set upload=200kB/s hours=22:00-07:00",
    "learnae limits set upload=off",
)
