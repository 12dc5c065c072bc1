"""The `learnaed` command: turns flags, environment and file into a `Config`, hands it to `app.run`, reports errors."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable
from typing import Any

import click

from learnae import __version__
from learnae.config import Config
from learnae.errors import ConfigError, LearnaeError, coded
from learnae.invitation import Invitation
from learnae.tasks import BUILT_IN, LOOP
from learnaed import joining, logs, passphrase

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
@click.option("--task", metavar="SPEC", help=f"What to train: {', '.join(BUILT_IN)}, file.py:Class, or {LOOP}.")
@click.option("--shard", metavar="K/N", help="Train on the K-th of N shards of the data.  [default: 1/1]")
@click.option("--skew", metavar="ALPHA", help="Dirichlet alpha of the split: 0.1 is very uneven.  [default: even]")
@click.option("--data", metavar="DIR", help="Directory with the task's data files.")
@click.option("--listen", metavar="MULTIADDR", multiple=True, help="Listen here.  [default: /ip4/0.0.0.0/tcp/4117]")
@click.option("--peer", metavar="MULTIADDR", multiple=True, help="Dial this peer too; not needed on one LAN.")
@click.option("--secret", is_flag=True, default=None, help="Make the swarm private: ask for its secret.")
@click.option("--secret-file", metavar="FILE", help="Make the swarm private: the secret is in this file.")
@click.option("--allow", metavar="PEER_ID", multiple=True, help="Connect to this peer, and to others so named, only.")
@click.option("--deny", metavar="PEER_ID", multiple=True, help="Never connect to this peer.")
@click.option("--home", metavar="DIR", help="Directory that holds the profiles.  [default: the user's data directory]")
@click.option("--profile", metavar="NAME", help="State directory inside home.  [default: default, default-2, ...]")
@click.option("--status-port", metavar="PORT", help="Status endpoint, or the next free port.  [default: 4118]")
@click.option("--status-listen", metavar="ADDR:PORT", help="Status endpoint for other machines too.  [default: none]")
@click.option(
    "--init", metavar="FILE|CID", help="Weights to begin with: a safetensors file or a cut.  [default: the task's]"
)
@click.option("--from", "start", metavar="CID", help="Start from this cut, see `learnae snapshots`.  [default: peers']")
@click.option("--ipfs", metavar="auto|off|ADDR", help="Pin snapshots to this IPFS node.  [default: auto, on this PC]")
@click.option("--snapshot-cap", metavar="SIZE", help="Most bytes of snapshots on the disk.  [default: 20GiB]")
@click.option("--limit", metavar="KEY=VALUE", multiple=True, help="hours, cpu, ram, upload, ...; see docs/limits.md.")
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
    file (status_port). Flags win over the environment, the environment over the file. --listen, --peer and
    --limit may be given several times. --log-level debug shows tracebacks. The secret itself is no argument: --secret
    asks for it, or LEARNAE_SECRET holds it.

    \b
    Examples:
      learnaed run --topic hello --task digits
      learnaed run --topic hello --task digits --shard 2/4 --skew 0.3
      learnaed run --topic lab --task my_task.py:MyTask --data ~/pictures
      learnaed run --topic lab --task digits --secret
      learnaed run --topic lab --task my_task.py:MyTask --init model.safetensors
      learnaed run --topic lab --task digits --from bafyrei...
      learnaed run --topic lab --task digits --limit cpu=50% --limit hours=22:00-07:00
      learnaed run --topic lab --task digits --peer /ip4/192.0.2.7/tcp/4117/p2p/12D3Koo...
    """
    context.exit(_run(flags))


@cli.command(
    params=[option for option in run.params if option.name not in ("topic", "secret", "secret_file")], epilog=_EPILOG
)
@click.argument("line", required=False)
@click.pass_context
def join(context: click.Context, /, line: str | None, **flags: Any) -> None:
    """Join the swarm of an invitation, a line that `learnae invite` made.

    LINE is asked for if it is not given, and read from standard input if it is "-": given as an argument, other
    users of this PC can read it while the daemon runs. What it says of topic, task, addresses and secret is used;
    the secret is stored in a file for this user alone, the other flags are those of `learnaed run`.

    \b
    Examples:
      learnaed join
      learnaed join - --shard 2/4 < invitation.txt
    """
    if line not in (None, "-"):
        click.echo(
            "learnaed: other users of this PC can see the invitation among the arguments of this process. "
            "Next time say `learnaed join` and paste the line when asked.",
            err=True,
        )
    context.exit(_run(flags, lambda: joining.read(line)))


def _run(flags: dict[str, Any], invited: Callable[[], Invitation] | None = None) -> int:
    """Run the daemon with these flags, in the swarm of an invitation if there is one; the exit code."""
    ask, phrase = bool(flags.pop("secret", None)), os.environ.pop(passphrase.VARIABLE, None)  # no child may have it
    debug = str(flags.get("log_level") or os.environ.get("LEARNAE_LOG_LEVEL")).lower() == "debug"
    # Until the daemon takes over, there is nothing to tidy up.
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        if invited is not None:
            config, secrets = joining.settle(invited(), flags, os.environ)
        else:
            config = Config.resolve(flags, os.environ)
            named = flags.get("secret_file") is not None
            config, secrets = passphrase.choose(config, ask=ask, named=named, variable=phrase)
        debug = config.log_level == "debug"
        with logs.configured(config.log_level, config.log_format):
            # Imported here: it pulls in the network stack, which --help and a wrong flag need not wait for.
            from learnaed import app

            code = app.run(config, secrets)
    except KeyboardInterrupt:
        code = 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        code = report(error)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return code


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"learnaed {__version__}")


def report(error: Exception) -> int:
    """Print one clear block on standard error, and give the exit code that goes with it."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    text = coded(error) if isinstance(error, LearnaeError) else logs.explain(error)
    if not isinstance(error, LearnaeError):
        text = (
            f"[defect] unexpected {type(error).__name__}: {text}. This is a defect of learnae, not of your setup. "
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
