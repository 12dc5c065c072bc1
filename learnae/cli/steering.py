"""`learnae finish`, `pause`, `resume` and `stop`: verbs that the daemons of this PC are told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from learnae.cli.common import UsageError, as_lines, example, found, where
from learnae.cli.times import span_option, time_option
from learnae.cli.words import clean, duration, moment
from learnae.errors import DaemonError

if TYPE_CHECKING:
    from learnae.cli.daemons import Daemon

_everyone = click.option("--all", "everyone", is_flag=True, help="Every daemon that runs here.")

STOP_SECONDS = 30.0
"""A daemon that was told to stop ends within five seconds; one that has not after so long will not."""


@click.command(short_help="Stop training for a while; go on serving.")
@where
@_everyone
@click.option("--for", "seconds", callback=span_option, metavar="TIME", help="Go on by itself after 90s, 30m, 2h, 1d.")
@click.option("--until", callback=time_option, metavar="HH:MM", help="Go on by itself when it is that late.")
@as_lines
def pause(
    home: Path | None, profile: str | None, everyone: bool, seconds: float | None, until: datetime | None, as_json: bool
) -> None:
    """Stop training; updates are still stored, merged and served.

    Without --for or --until it lasts until `learnae resume`. A second pause takes the place of the first one.
    """
    if seconds is not None and until is not None:
        raise UsageError("--for and --until both say when the pause ends: give one of the two.", code="options-clash")
    chosen = _chosen(home, profile, everyone)
    if until is not None:
        seconds = max(until.timestamp() - time.time(), 1.0)
    ends = None if seconds is None else time.time() + seconds
    for daemon in chosen:
        daemon.post("/api/pause" if seconds is None else f"/api/pause?seconds={seconds:.0f}")
        if as_json:
            _tell(daemon, "pause", as_json, until=ends)
        elif ends is None or seconds is None:
            _tell(daemon, "pause", as_json)
        else:
            click.echo(f"{daemon.profile}: pause accepted, until {moment(ends, time.time())} ({duration(seconds)})")


@click.command(short_help="Train again after a pause.")
@where
@_everyone
@as_lines
def resume(home: Path | None, profile: str | None, everyone: bool, as_json: bool) -> None:
    """Train again after a pause.

    It ends your own pause. If a limit keeps the node from training too, that goes on, and is said.
    """
    for daemon in _chosen(home, profile, everyone):
        daemon.post("/api/resume")
        _tell(daemon, "resume", as_json)
        left = (daemon.get("/api/status").get("paused") or {}).get("reasons") if not as_json else None
        if left:
            why = "; ".join(clean(reason.get("text")) for reason in left)
            click.echo(f"{daemon.profile}: still not training: {why}. See `learnae limits`")


@click.command(short_help="End after this round, when all have it.")
@where
@_everyone
@click.option("--wait", is_flag=True, help="Come back when it has ended.")
@as_lines
def finish(home: Path | None, profile: str | None, everyone: bool, wait: bool, as_json: bool) -> None:
    """Complete the round, publish it, let the swarm settle, and end."""
    _end("finish", _chosen(home, profile, everyone), wait, None, as_json)


@click.command(short_help="End now, within seconds.")
@where
@_everyone
@click.option("--wait", is_flag=True, help="Come back when it has ended; 1 if it has not after 30 s.")
@as_lines
def stop(home: Path | None, profile: str | None, everyone: bool, wait: bool, as_json: bool) -> None:
    """End now, within seconds; the next start goes on from the state that is kept."""
    _end("stop", _chosen(home, profile, everyone), wait, STOP_SECONDS, as_json)


def _end(verb: str, chosen: list[Daemon], wait: bool, patience: float | None, as_json: bool) -> None:
    for daemon in chosen:
        daemon.post(f"/api/{verb}")
        if not (wait and as_json):
            _tell(daemon, verb, as_json)
    for daemon in chosen if wait else ():
        if not ended(daemon, patience):
            raise DaemonError(
                f"daemon {daemon.profile!r} (process {daemon.pid}) was told to {verb} and still runs after "
                f"{duration(patience or 0)}. `learnae logs --profile {daemon.profile}` may say why; "
                "end the process yourself if it hangs.",
                code="daemon-slow",
            )
        if as_json:
            _tell(daemon, verb, as_json, ended=True)
        else:
            click.echo(f"{daemon.profile}: ended")


def ended(
    daemon: Daemon,
    patience: float | None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Wait for the end of a daemon; whether it has come within `patience` seconds (None: however long it takes)."""
    from learnae.cli import daemons

    begin = clock()
    while any(other.pid == daemon.pid for other in daemons.find(daemon.directory.parent)):
        if patience is not None and clock() - begin >= patience:
            return False
        sleep(0.1)
    # The file goes a moment before the process does.
    while daemons.alive(daemon.pid) and daemons.CAN_TELL:
        if patience is not None and clock() - begin >= patience:
            return False
        sleep(0.05)
    return True


def _chosen(home: Path | None, profile: str | None, everyone: bool) -> list[Daemon]:
    if everyone and profile:
        raise UsageError(
            "--profile names one daemon and --all means every one: give one of the two.", code="options-clash"
        )
    several = found(home, profile)
    if len(several) > 1 and not everyone:
        names = ", ".join(daemon.profile for daemon in several)
        raise UsageError(
            f"{len(several)} daemons run here: {names}. Say --profile NAME, or --all.", code="several-daemons"
        )
    return several


def _tell(daemon: Daemon, verb: str, as_json: bool, **more: Any) -> None:
    if as_json:
        click.echo(json.dumps({"profile": daemon.profile, "accepted": verb} | more))
    else:
        click.echo(f"{daemon.profile}: {verb} accepted")


example(
    pause,
    "learnae pause                  until `learnae resume`",
    "learnae pause --for 2h         90s, 30m, 2h, 1d, 1h30m",
    "learnae pause --until 18:00    by this PC's clock, today or tomorrow",
)
example(finish, "learnae finish --wait && learnae export model.safetensors")
example(stop, "learnae stop --all --wait")
