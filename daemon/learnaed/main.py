"""The `learnaed` command: turns flags, environment and file into a `Config`, hands it to `app.run`, reports errors."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import traceback
from typing import Any

import click

from learnae import __version__
from learnae.config import Config
from learnae.errors import ConfigError, LearnaeError
from learnae.tasks import BUILT_IN
from learnaed import logs

EXIT_ERROR = 1
EXIT_CONFIG = 2

_EPILOG = """\b
Exit codes:
  0  clean: finished, stopped, or asked to end by SIGTERM or Ctrl+C
  1  an error while running; the message says what to do
  2  a flag, environment variable or configuration file is wrong"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(__version__, message="learnaed %(version)s")
def cli() -> None:
    """The learnae daemon: trains a neural network together with every other PC on a topic.

    There is no server and no coordinator. A node trains on its own data, gossips compressed
    weight updates, and adds what the others send to its own weights. Any node may leave at any time.

    \b
    Try it on two PCs of one network:
      PC 1:  learnaed run --topic hello --task digits --shard 1/2
      PC 2:  learnaed run --topic hello --task digits --shard 2/2

    Watch and steer a running daemon with `learnae status`, `learnae peers` and `learnae finish`.
    """


@cli.command(epilog=_EPILOG)
@click.option("--topic", metavar="NAME", help="Swarm to join: nodes with the same topic and task train together.")
@click.option("--task", metavar="SPEC", help=f"What to train: {', '.join(BUILT_IN)}, or file.py:Class.")
@click.option("--shard", metavar="K/N", help="Train on the K-th of N shards of the data.  [default: 1/1]")
@click.option("--skew", metavar="ALPHA", help="Dirichlet alpha of the split: 0.1 is very uneven.  [default: even]")
@click.option("--data", metavar="DIR", help="Directory with the task's data files.")
@click.option("--listen", metavar="MULTIADDR", multiple=True, help="Listen here.  [default: /ip4/0.0.0.0/tcp/4117]")
@click.option("--peer", metavar="MULTIADDR", multiple=True, help="Dial this peer too; not needed on one LAN.")
@click.option("--home", metavar="DIR", help="Directory that holds the profiles.  [default: the user's data directory]")
@click.option("--profile", metavar="NAME", help="State directory inside home.  [default: default, default-2, ...]")
@click.option("--status-port", metavar="PORT", help="Status endpoint, or the next free port.  [default: 4118]")
@click.option("--status-listen", metavar="ADDR:PORT", help="Status endpoint for other machines too.  [default: none]")
@click.option("--from", "start", metavar="CID", help="Start from this cut, see `learnae snapshots`.  [default: peers']")
@click.option("--ipfs", metavar="auto|off|ADDR", help="Pin snapshots to this IPFS node.  [default: auto, on this PC]")
@click.option("--snapshot-cap", metavar="SIZE", help="Most bytes of snapshots on the disk.  [default: 20GiB]")
@click.option("--mdns/--no-mdns", default=None, help="Find peers on the local network.  [default: on]")
@click.option("--paused", is_flag=True, default=None, help="Start without training; `learnae resume` begins.")
@click.option("--seed", metavar="N", help="Seed of this node's random draws.  [default: 0]")
@click.option("--rounds", metavar="N", help="Finish after N own rounds.  [default: never]")
@click.option("--log-format", metavar="text|json", help="Format of the log.  [default: text]")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.  [default: info]")
@click.option("--config", metavar="FILE", help="TOML file.  [default: learnae.toml in home, if there]")
@click.option("--torch-threads", metavar="N", help="Threads of a training step.  [default: all cores]")
@click.pass_context
def run(context: click.Context, /, **flags: Any) -> None:
    """Join a swarm and train until told to finish.

    Every flag is also an environment variable (LEARNAE_STATUS_PORT for --status-port) and a key of the TOML
    file (status_port). Flags win over the environment, the environment over the file. --listen and --peer may
    be given several times. --log-level debug shows tracebacks.

    \b
    Examples:
      learnaed run --topic hello --task digits
      learnaed run --topic hello --task digits --shard 2/4 --skew 0.3
      learnaed run --topic lab --task my_task.py:MyTask --data ~/pictures
      learnaed run --topic lab --task digits --from bafyrei...
      learnaed run --topic lab --task digits --peer /ip4/192.0.2.7/tcp/4117/p2p/12D3Koo...
    """
    debug = str(flags.get("log_level") or os.environ.get("LEARNAE_LOG_LEVEL")).lower() == "debug"
    # Until the daemon takes over, there is nothing to tidy up.
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        config = Config.resolve(flags, os.environ)
        debug = config.log_level == "debug"
        with logs.configured(config.log_level, config.log_format):
            # Imported here: it pulls in the network stack, which --help and a wrong flag need not wait for.
            from learnaed import app

            code = app.run(config)
    except KeyboardInterrupt:
        code = 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        code = report(error)
    finally:
        signal.signal(signal.SIGTERM, previous)
    context.exit(code)


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"learnaed {__version__}")


def report(error: Exception) -> int:
    """Print one clear block on standard error, and give the exit code that goes with it."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    text = logs.explain(error)
    if not isinstance(error, LearnaeError):
        text = (
            f"unexpected {type(error).__name__}: {text}. This is a defect of learnae, not of your setup. "
            "Run again with --log-level debug, and report what it prints."
        )
    block = textwrap.fill(
        text,
        width=100,
        initial_indent="learnaed: ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    click.echo(block, err=True)
    return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_ERROR


def main() -> None:
    """Entry point of the `learnaed` script and of `python -m learnaed`."""
    # A pipe that closes (`learnaed --help | head`) is no error.
    try:
        cli(prog_name="learnaed")
    except BrokenPipeError:
        sys.exit(EXIT_ERROR)
