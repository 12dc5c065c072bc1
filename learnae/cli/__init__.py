"""The `learnae` command: watch and steer the daemons of this PC, and try a whole swarm on it with `learnae demo`."""

from __future__ import annotations

import click

from learnae import __version__
from learnae.cli.common import Group

_EPILOG = """\b
Exit codes:
  0    done
  1    an error: no daemon runs, it refused, the doctor found a fault, or the demo's nodes disagree
  2    the command line is wrong
  130  ended by Ctrl+C
  143  ended by SIGTERM (demo)"""

_COMMANDS = {
    "status": "learnae.cli.looking:status",
    "peers": "learnae.cli.looking:peers",
    "pause": "learnae.cli.steering:pause",
    "resume": "learnae.cli.steering:resume",
    "finish": "learnae.cli.steering:finish",
    "stop": "learnae.cli.steering:stop",
    "dashboard": "learnae.cli.dashboard:dashboard",
    "doctor": "learnae.cli.doctor.command:doctor",
    "snapshots": "learnae.cli.models:snapshots",
    "pin": "learnae.cli.models:pin",
    "unpin": "learnae.cli.models:unpin",
    "export": "learnae.cli.models:export",
    "import": "learnae.cli.models:import_",
    "config": "learnae.cli.settings:config",
    "service": "learnae.cli.service:service",
    "bundle": "learnae.cli.bundle:bundle",
    "invite": "learnae.cli.inviting:invite",
    "secret": "learnae.cli.inviting:secret",
    "demo": "learnae.cli.trying:demo",
}


@click.group(cls=Group, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
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


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"learnae {__version__}")


def main() -> None:
    """Entry point of the `learnae` script."""
    cli(prog_name="learnae")
