"""`learnae status` and `peers`: what the daemons of this PC are doing, and whom they know."""

from __future__ import annotations

import json
from pathlib import Path

import click

from learnae.cli.common import as_lines, found, where


@click.command()
@where
@as_lines
def status(home: Path | None, profile: str | None, as_json: bool) -> None:
    """What every daemon here is doing."""
    from learnae.cli import tables

    answers = [daemon.get("/api/status") for daemon in found(home, profile)]
    for place, answer in enumerate(answers):
        if as_json:
            click.echo(json.dumps(answer))
            continue
        if place:
            click.echo()
        tables.show_status(answer)


@click.command()
@where
@as_lines
def peers(home: Path | None, profile: str | None, as_json: bool) -> None:
    """Whom every daemon here knows, and what keeps it from merging with someone."""
    from learnae.cli import tables

    for daemon in found(home, profile):
        answer = daemon.get("/api/peers")
        if as_json:
            click.echo(json.dumps({"profile": daemon.profile, "peers": answer}))
        else:
            tables.show_peers(daemon, answer)
