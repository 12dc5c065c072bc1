"""The `learnae` command: watch and steer the daemons of this PC, and try a whole swarm on it with `learnae demo`."""

from __future__ import annotations

import click

from learnae import __version__
from learnae.cli.common import Group
from learnae.cli.completing import VARIABLE

_EPILOG = """\b
Examples:
  learnae demo                              a swarm of four on this PC, in a minute
  learnaed run --topic hello --task digits  join one for real; then, elsewhere:
  learnae top                               watch it
  learnae pause --for 2h                    have the PC to yourself
  learnae export model.safetensors          take the model

\b
Exit codes:
  0    done
  1    an error: no daemon runs, it refused, the doctor found a fault, or the demo's nodes disagree
  2    the command line is wrong
  130  ended by Ctrl+C
  143  ended by SIGTERM (demo, top)

\b
COMMAND --help says more of each. Nothing is coloured where NO_COLOR is set or the
output is no terminal. With --json all print one JSON object a line."""

_COMMANDS = {
    "status": "learnae.cli.looking:status",
    "peers": "learnae.cli.looking:peers",
    "top": "learnae.cli.top:top",
    "events": "learnae.cli.watching:events",
    "logs": "learnae.cli.reading:logs",
    "pause": "learnae.cli.steering:pause",
    "resume": "learnae.cli.steering:resume",
    "finish": "learnae.cli.steering:finish",
    "stop": "learnae.cli.steering:stop",
    "limits": "learnae.cli.limiting:limits",
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
    "task": "learnae.cli.task:task",
    "completion": "learnae.cli.completing:completion",
}

_SECTIONS = {
    "Watch": ("status", "top", "dashboard", "peers", "events", "logs", "doctor"),
    "Steer": ("pause", "resume", "finish", "stop", "limits"),
    "The swarm's model": ("snapshots", "export", "pin", "unpin", "import"),
    "Private swarms": ("invite", "secret", "join"),
    "Set up": ("demo", "task", "config", "service", "bundle", "completion", "version"),
    "More": (),
}
"""Headings of the help; names that there are not are passed over."""


@click.group(
    cls=Group,
    lazy=_COMMANDS,
    sections=_SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
@click.version_option(__version__, message="learnae %(version)s")
def cli() -> None:
    """Watch and steer the learnae daemons of this PC.

    The daemon, `learnaed`, trains one model together with others. These commands find the daemons that run here by
    themselves; where there are several, --profile NAME says which one is meant.
    """


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"learnae {__version__}")


def main() -> None:
    """Entry point of the `learnae` script."""
    cli(prog_name="learnae", complete_var=VARIABLE)
