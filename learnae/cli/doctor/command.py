"""The command `learnae doctor`: looks for what is wrong with the nodes of this PC, and says what to do."""

from __future__ import annotations

from pathlib import Path

import click

from learnae.cli.common import EXIT_ERROR, as_lines, where
from learnae.home import default_home


@click.command()
@where
@as_lines
@click.pass_context
def doctor(ctx: click.Context, home: Path | None, profile: str | None, as_json: bool) -> None:
    """Look for what is wrong, and say what to do.

    Looks at the daemon, its network and peers, clock, disk, memory, torch, task and IPFS node: a verdict a line, and
    what to do about it. Works without a daemon too, before the first start for instance. Nothing is changed.

    \b
    ok    all is well
    warn  it works, but could be better
    fail  it does not work until you act; the exit code is then 1
    skip  could not be looked at
    """
    from learnae.cli.doctor import printing
    from learnae.cli.doctor.checks import examine
    from learnae.cli.doctor.gathering import gather, profiles
    from learnae.cli.doctor.verdict import Level

    failed = False
    for number, directory in enumerate(profiles((home or default_home()).absolute(), profile)):
        verdicts = examine(gather(directory))
        failed = failed or any(verdict.level is Level.FAIL for verdict in verdicts)
        if as_json:
            click.echo(printing.as_json({"profile": directory.name}, verdicts))
        else:
            if number:
                click.echo()
            printing.show(directory, verdicts)
    ctx.exit(EXIT_ERROR if failed else 0)
