"""`learnae status` and `peers`: what the daemons of this PC are doing, and whom they know."""

from __future__ import annotations

import json
from pathlib import Path

import click

from learnae.cli.common import as_lines, example, found, where


@click.command(short_help="What every daemon here is doing, and why.")
@where
@as_lines
def status(home: Path | None, profile: str | None, as_json: bool) -> None:
    """What every daemon here is doing: its state and why, training, updates, cuts, traffic, messages."""
    from learnae.cli import tables

    answers = [daemon.get("/api/status") for daemon in found(home, profile)]
    for place, answer in enumerate(answers):
        if as_json:
            click.echo(json.dumps(answer))
            continue
        if place:
            click.echo()
        tables.show_status(answer)


@click.command(short_help="Whom they know, and what keeps them apart.")
@where
@as_lines
def peers(home: Path | None, profile: str | None, as_json: bool) -> None:
    """Whom every daemon here knows, and what keeps it from merging with someone.

    Where the screen is narrow, columns that matter less are left out; a wider one or --json has all.
    """
    from learnae.cli import tables

    for daemon in found(home, profile):
        answer = daemon.get("/api/peers")
        if as_json:
            click.echo(json.dumps({"profile": daemon.profile, "peers": answer}))
        else:
            tables.show_peers(daemon, answer)


example(status, "learnae status", "learnae status --json | jq .trainer.accuracy")
example(peers, "learnae peers", "learnae peers --json | jq '.peers[].problem'")
