"""The `netsim` command: what swarms do at scale and under disaster, tried on one PC."""

from __future__ import annotations

import textwrap
from typing import Any

import click

from learnae import __version__
from learnae.cli.common import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, Group
from learnae.errors import LearnaeError

_EPILOG = """\b
Examples:
  netsim list                                  the scenarios that come with it
  netsim run home-links --seeds 3 --out out    one of them, three times, with plots
  netsim run lan-lab --set nodes.0.count=32    the same with more nodes
  netsim compare home-links fedavg pairwise    beside other ways of training together
  netsim sweep lan-lab --over codec.density=0.005,0.01,0.02 --out sweep

\b
Exit codes:
  0    done
  1    a run failed, something is missing here, or --check found figures out of bounds
  2    the command line or the scenario is wrong
  130  ended by Ctrl+C

\b
COMMAND --help says more of each. Tables and JSON go to standard output, progress to
standard error. Nothing is coloured where NO_COLOR is set or the output is no terminal."""

_COMMANDS = {
    "list": "netsim.cli.looking:list_",
    "show": "netsim.cli.looking:show",
    "run": "netsim.cli.running:run",
    "compare": "netsim.cli.comparing:compare",
    "sweep": "netsim.cli.sweeping:sweep",
    "real": "netsim.cli.running:real",
}

_SECTIONS = {
    "Scenarios": ("list", "show"),
    "Simulate": ("run", "compare", "sweep"),
    "Real daemons": ("real",),
    "More": (),
}

_EXTRA = ("msgspec", "matplotlib")
"""What `netsim` alone needs."""


class _Group(Group):
    """Shows the simulator's errors as one block as well."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, if there is one; ends with a word on how to install what it lacks."""
        from netsim.errors import MissingError

        try:
            return super().get_command(ctx, cmd_name)
        except ModuleNotFoundError as error:
            if error.name not in _EXTRA:
                raise
            _say(MissingError(f"netsim needs {error.name}, which is not installed: pip install 'learnae[sim]'"))
            ctx.exit(EXIT_ERROR)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        from netsim.errors import NetsimError, ScenarioError

        try:
            # Not Group's own: that one speaks of learnae.
            return click.Group.invoke(self, ctx)
        except (NetsimError, LearnaeError) as error:
            _say(error)
            ctx.exit(EXIT_USAGE if isinstance(error, ScenarioError) else EXIT_ERROR)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)


def _say(error: Exception) -> None:
    first, *rest = str(error).splitlines() or [type(error).__name__]
    block = textwrap.fill(first, 100, initial_indent="netsim: ", subsequent_indent="  ", break_on_hyphens=False)
    click.echo("\n".join([block, *rest]), err=True)


@click.group(
    cls=_Group,
    lazy=_COMMANDS,
    sections=_SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
@click.version_option(__version__, message="netsim of learnae %(version)s")
def cli() -> None:
    """See what a swarm does before you have one.

    The daemon's own coordinator, ledger and codec run for every node, under a clock and a network that are only
    computed. A scenario is a TOML file: the nodes, their links, what befalls them, what is trained, and what is
    expected to come out.
    """


def main() -> None:
    """Entry point of the `netsim` script."""
    cli(prog_name="netsim")
