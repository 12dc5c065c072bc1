"""`learnae logs`: the end of a daemon's log, also of one that does not run any more."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
from rich.text import Text

from learnae.cli.common import UsageError, example, where
from learnae.cli.logfile import LEVELS, Entry, Follower, entries, tail
from learnae.cli.words import clean
from learnae.errors import DaemonError
from learnae.home import LOG_FILE, default_home

_LOOK_EVERY = 0.5
_STYLES = {"warning": "yellow", "error": "red", "critical": "bold red", "debug": "dim"}
_LINE = 4000
"""Characters of one line that are shown."""


@click.command(short_help="The end of a daemon's log, and what follows.")
@where
@click.option("-n", "--lines", type=click.IntRange(0, 1_000_000), default=50, show_default=True, help="Newest entries.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written from now on, until Ctrl+C.")
@click.option("--level", type=click.Choice(LEVELS), default="debug", help="Only this level and those above.")
@click.option(
    "--json", "as_json", is_flag=True, help='One object a line: "time" (UTC), "level", "logger", "event", ...'
)
def logs(home: Path | None, profile: str | None, lines: int, follow: bool, level: str, as_json: bool) -> None:
    """Show the end of a daemon's log, also of one that has ended.

    Without --profile: that of the daemon that runs; if none does, of the one that wrote last. Rotated files count too.
    """
    from learnae.cli import tables

    directory = directory_of(home or default_home(), profile)
    console = tables.screen()

    def show(entry: Entry) -> None:
        if not entry.at_least(level):
            return
        if as_json:
            click.echo(json.dumps(entry.fields()))
            return
        for place, line in enumerate(entry.lines):
            console.print(Text(clean(line, _LINE), "dim" if place else _STYLES.get(entry.level, "")), soft_wrap=True)

    follower = Follower(directory / LOG_FILE) if follow else None
    for entry in tail(directory / LOG_FILE, lines, level, follower.position if follower else None):
        show(entry)
    while follower:
        for entry in entries(follower.poll()):
            show(entry)
        time.sleep(_LOOK_EVERY)


def directory_of(home: Path, profile: str | None) -> Path:
    """The profile whose log is meant.

    Raises:
        DaemonError: no daemon has written a log there.
        click.UsageError: several daemons run.
    """
    from learnae.cli import daemons

    if profile is not None:
        if not (home / profile / LOG_FILE).is_file():
            there = ", ".join(sorted(path.parent.name for path in home.glob(f"*/{LOG_FILE}")))
            raise DaemonError(
                f"there is no log of profile {profile!r} in {home}. "
                + (f"There are logs of: {there}." if there else "No daemon has run there yet. " + daemons.START),
                code="no-log",
            )
        return home / profile
    running = [daemon.directory for daemon in daemons.find(home) if (daemon.directory / LOG_FILE).is_file()]
    if len(running) > 1:
        names = ", ".join(directory.name for directory in running)
        raise UsageError(f"{len(running)} daemons run here: {names}. Say --profile NAME.", code="several-daemons")
    logs = running or [path.parent for path in home.glob(f"*/{LOG_FILE}")]
    if not logs:
        raise DaemonError(f"there is no log in {home}: no daemon has run there yet. {daemons.START}", code="no-daemon")
    return max(logs, key=lambda directory: (directory / LOG_FILE).stat().st_mtime)


example(
    logs,
    "learnae logs -n 200 --level warning",
    "learnae logs --follow",
    "learnae logs --json | jq -r .event",
)
