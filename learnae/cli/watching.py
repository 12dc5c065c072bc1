"""`learnae events`: what happens in a daemon, as it happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from learnae.cli.common import example, one, where
from learnae.cli.stream import HEARTBEAT, KINDS, Event, Parser, in_words, wall_time
from learnae.cli.words import clean
from learnae.errors import DaemonError

if TYPE_CHECKING:
    from learnae.cli.daemons import Daemon

_AGAIN = 1.0
"""Seconds before a stream that broke off is asked for anew."""
_STYLES = {"state": "bold", "message": "", "settled": "green", "paused": "yellow", "limits": "yellow", "peer": "cyan"}


@click.command(short_help="What happens in a daemon, as it happens.")
@where
@click.option("--follow", "-f", is_flag=True, help="Go on until the daemon ends, or Ctrl+C.")
@click.option("--since", type=click.IntRange(0), metavar="N", help="Only what came after event N.")
@click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, help="Only this kind; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help='One object a line: {"id", "time", "kind", "data"}.')
def events(
    home: Path | None, profile: str | None, follow: bool, since: int | None, kinds: tuple[str, ...], as_json: bool
) -> None:
    """What has happened in a daemon, as far as it remembers: the last thousand events.

    With --follow also what happens from now on. Each event has a number; a script that remembers the last one which
    it saw goes on from there with --since.
    """
    from learnae.cli import tables

    daemon = one(home, profile)
    console = tables.screen()

    def show(event: Event) -> None:
        if kinds and event.kind not in kinds:
            return
        if as_json:
            click.echo(event.as_json())
            return
        line = Text.assemble((wall_time(event.time), "dim"), " ")
        line.append(f"{clean(event.kind, 10):<9}", _STYLES.get(event.kind, "")).append(f"{in_words(event)}")
        line.append(f"  #{event.id}", "dim")
        console.print(line, soft_wrap=True)

    last = since or 0
    for event in past(daemon, last):
        last = max(last, event.id)
        show(event)
    if follow:
        for event in live(daemon, last):
            show(event)
        click.echo(f"{daemon.profile}: the daemon has ended", err=True)


def past(daemon: Daemon, since: int) -> list[Event]:
    """The events after number `since` that the daemon remembers. Raises DaemonError."""
    rows = daemon.get(f"/api/events?since={since}&wait=0")
    rows = rows.get("events") if isinstance(rows, dict) else rows
    try:
        return [Event.of(row) for row in rows or ()]
    except (ValueError, TypeError) as error:
        raise DaemonError(
            f"daemon {daemon.profile!r} answered with what are no events. It may be of another version than this "
            "command: compare `learnae --version` and `learnae status --json`.",
            code="daemon-foreign",
        ) from error


def live(daemon: Daemon, since: int) -> Iterator[Event]:
    """The events after number `since` as they happen, until the daemon ends. Raises DaemonError if it refuses."""
    from learnae.cli import daemons

    last = since
    while True:
        try:
            for event in _streamed(daemon, last):
                last = event.id
                yield event
        except DaemonError:
            if _runs(daemon):
                raise
        if not _runs(daemon) or not daemons.alive(daemon.pid):
            return
        time.sleep(_AGAIN)


def _runs(daemon: Daemon) -> bool:
    from learnae.cli import daemons

    return any(other.pid == daemon.pid for other in daemons.find(daemon.directory.parent))


def _streamed(daemon: Daemon, last: int) -> Iterator[Event]:
    import httpx

    parser = Parser()
    headers = daemon.reading() | {"Accept": "text/event-stream", "Last-Event-ID": str(last)}
    timeout = httpx.Timeout(10.0, read=3 * HEARTBEAT)
    try:
        with (
            httpx.Client(trust_env=False, timeout=timeout) as client,
            client.stream("GET", f"{daemon.url}/api/events?since={last}", headers=headers) as answer,
        ):
            if answer.is_error:
                answer.read()
                raise daemon.refused(answer)
            for line in answer.iter_lines():
                if event := parser.feed(line):
                    yield event
    except httpx.HTTPError:
        return  # The daemon has ended, or hangs: who follows looks which.


example(
    events,
    "learnae events                          what it remembers",
    "learnae events --follow --kind settled  each cut that is settled, from now on too",
    "learnae events --follow --json | jq .   for scripts",
)
