"""`learnae finish`, `pause`, `resume` and `stop`: verbs that the daemons of this PC are told."""

from __future__ import annotations

from pathlib import Path

import click

from learnae.cli.common import UsageError, found, where


def _verb(name: str, text: str) -> click.Command:
    @click.command(name, help=text)
    @where
    @click.option("--all", "everyone", is_flag=True, help="Every daemon that runs here.")
    def command(home: Path | None, profile: str | None, everyone: bool) -> None:
        if everyone and profile:
            raise UsageError(
                "--profile names one daemon and --all means every one: give one of the two.", code="options-clash"
            )
        daemons = found(home, profile)
        if len(daemons) > 1 and not everyone:
            names = ", ".join(daemon.profile for daemon in daemons)
            raise UsageError(
                f"{len(daemons)} daemons run here: {names}. Say --profile NAME, or --all.", code="several-daemons"
            )
        for daemon in daemons:
            daemon.command(name)
            click.echo(f"{daemon.profile}: {name} accepted")

    return command


finish = _verb("finish", "Complete the round, publish it, let the swarm settle, and end.")
pause = _verb("pause", "Stop training; updates are still stored, merged and served.")
resume = _verb("resume", "Train again after a pause.")
stop = _verb("stop", "End now, within seconds; the next start goes on from the state that is kept.")
