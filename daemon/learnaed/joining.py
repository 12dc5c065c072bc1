"""`learnaed join`: from an invitation to settings, with the secret in a file of its own; used by `main`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from learnae.club import Secrets
from learnae.config import Config
from learnae.errors import ConfigError, StoreError, WireError
from learnae.invitation import MAX_LINE, Invitation


def read(line: str | None) -> Invitation:
    """The invitation in `line`; from standard input if it is "-", from the terminal if it is None.

    Raises:
        ConfigError: it is none, or damaged.
    """
    if line == "-" or (line is None and not sys.stdin.isatty()):
        line = sys.stdin.read(MAX_LINE + 1)
    elif line is None:
        line = str(click.prompt("Invitation", hide_input=True, err=True, type=str))
    try:
        return Invitation.parse(line)
    except WireError as error:
        raise ConfigError(
            f"the invitation cannot be used: {error}. Copy the whole line that `learnae invite` prints, from "
            "`learnae:` to its end",
            code="bad-invitation",
        ) from None


def settle(
    invitation: Invitation, flags: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[Config, Secrets | None]:
    """The settings of a node that was invited, and its secrets, which are then in `TOPIC.secret` in home.

    Args:
        invitation: says topic and secret, which task unless a flag does, and whom to dial beside --peer.
        flags: as for `Config.resolve`.
        environment: the same.

    Raises:
        ConfigError: a flag is wrong, or the swarm's task is a file and no --task was given.
        StoreError: the secret cannot be stored.
    """
    task = flags.get("task") or invitation.task
    if task is None:
        raise ConfigError(
            f"the swarm {invitation.topic} trains a task from a file, which an invitation cannot hold. Have the file "
            "sent to you and say --task FILE.py:CLASS",
            code="bad-invitation",
        )
    said = {**flags, "topic": invitation.topic, "task": task, "peer": (*flags.get("peer", ()), *invitation.peers)}
    config = Config.resolve(said, environment)
    if invitation.secrets is None:
        return replace(config, secret_file=None), None
    path = config.home / f"{config.topic}.secret"
    _store(path, invitation.secrets)
    again = f"learnaed run --topic {config.topic} --task {config.task} --secret-file {path}"
    click.echo(f"learnaed: the secret is stored in {path}; to start again later: {again}", err=True)
    return replace(config, secret_file=path), invitation.secrets


def _store(path: Path, secrets: Secrets) -> None:
    """What another swarm of this name, or an older invitation, left there is kept beside it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists() and path.read_text(encoding="utf-8", errors="replace") != secrets.text:
            path.replace(path.with_name(f"{path.name}.old"))
    except OSError as error:
        raise StoreError(
            f"{path} cannot be replaced: {error.strerror}. Correct its owner, or move it away", code="file-unwritable"
        ) from error
    from learnaed.status.files import write_private  # here: it pulls in the server, which --help need not wait for

    write_private(path, secrets.text)
