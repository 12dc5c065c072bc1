"""Shell completion: `learnae completion`, and what it offers for profiles, CIDs and limits; used by the commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from learnae.errors import LearnaeError
from learnae.home import LOG_FILE, STATUS_FILE, default_home

if TYPE_CHECKING:
    from learnae.cli.daemons import Daemon

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_LEARNAE_COMPLETE"
_MOMENT = 1.0
"""Seconds that a daemon has to answer while somebody waits at the prompt."""

_WHERE_TO = """\b
Set it up once, for the shell that you use:
  bash  echo 'eval "$(learnae completion bash)"' >> ~/.bashrc
  zsh   echo 'eval "$(learnae completion zsh)"' >> ~/.zshrc
  fish  learnae completion fish > ~/.config/fish/completions/learnae.fish"""


@click.command(epilog=_WHERE_TO, short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes learnae's words in SHELL: commands, options, profiles, CIDs."""
    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root().command
    click.echo(kind(root, {}, "learnae", VARIABLE).source())


def profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the profiles in home; those of running daemons first."""
    found = []
    for path in _home(ctx).glob("*/"):
        if path.name.startswith(incomplete) and any((path / name).is_file() for name in (STATUS_FILE, LOG_FILE)):
            runs = (path / STATUS_FILE).is_file()
            found.append((not runs, path.name, CompletionItem(path.name, help="runs" if runs else "stopped")))
    return [item for *_, item in sorted(found, key=lambda entry: entry[:2])]


def cids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """CIDs of the cuts that the daemons here keep, the newest first."""
    rows = [row for daemon in _daemons(ctx) for row in _ask(daemon, "/api/snapshots", list)]
    rows.sort(key=lambda row: str(row.get("since")), reverse=True)
    return [
        CompletionItem(row["cid"], help=f"cut {row.get('index')}")
        for row in rows
        if str(row.get("cid", "")).isalnum() and row["cid"].startswith(incomplete)
    ]


def cids_and_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """CIDs where a word begins like one, else the shell's own file names."""
    return cids(ctx, param, incomplete) if incomplete.startswith("baf") else [CompletionItem(incomplete, type="file")]


def limits(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of limits, up to the "="."""
    names = {name for daemon in _daemons(ctx) for name in _ask(daemon, "/api/limits", dict)}
    return [CompletionItem(f"{name}=", type="plain") for name in sorted(names) if name.startswith(incomplete)]


def _home(ctx: click.Context) -> Path:
    return Path(ctx.params.get("home") or os.environ.get("LEARNAE_HOME") or default_home())


def _daemons(ctx: click.Context) -> list[Daemon]:
    from learnae.cli import daemons

    try:
        return daemons.select(_home(ctx), ctx.params.get("profile"))
    except LearnaeError:
        return []  # Nobody to ask: nothing is offered, and nothing said in the middle of a line.


def _ask(daemon: Daemon, path: str, kind: type[Any]) -> Any:
    try:
        answer = daemon.get(path, timeout=_MOMENT)
    except LearnaeError:
        return kind()
    return answer if isinstance(answer, kind) else kind()
