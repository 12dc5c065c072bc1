"""Where the secret of a private swarm comes from, terminal, file or LEARNAE_SECRET; used by `main`.

It is never an argument, and never part of `Config`: what is shown of settings cannot show it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from learnae.club import Secrets
from learnae.config import Config
from learnae.errors import ConfigError

VARIABLE = "LEARNAE_SECRET"
_MOST_BYTES = 8192


def choose(
    config: Config, *, ask: bool, named: bool, variable: str | None, prompt: Callable[[], str] | None = None
) -> tuple[Config, Secrets | None]:
    """The secrets, None for an open swarm; and the settings, in which `secret_file` stands only if they are from there.

    Args:
        config: the settings.
        ask: --secret was said: from the terminal, or a line of standard input.
        named: --secret-file was said, which wins over the variable; LEARNAE_SECRET_FILE and the file do not.
        variable: what stood in LEARNAE_SECRET.
        prompt: reads a line without showing it; None: from the terminal.

    Raises:
        ConfigError: two ways at once, a file that cannot be read, or a secret that cannot be used.
    """
    if ask and named:
        raise ConfigError(
            "--secret asks for the secret, and --secret-file says where it is. Give one of the two.",
            code="options-clash",
        )
    if ask:
        return replace(config, secret_file=None), Secrets([(prompt or _prompt)()])
    if variable and not named:
        return replace(config, secret_file=None), Secrets.read(variable)
    if config.secret_file is not None:
        return config, read(config.secret_file)
    return config, None


def _prompt() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Secret", hide_input=True, err=True, type=str))
    return sys.stdin.readline()


def read(path: Path) -> Secrets:
    """The passphrases in a file, one a line: the first seals, all open.

    Raises:
        ConfigError: it cannot be read, or holds none that can be used; the message shows nothing of it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        text = data.decode()
    except OSError as error:
        raise ConfigError(
            f"the secret file {path} cannot be read: {error.strerror}. Correct the path, or its permissions.",
            code="secret-unreadable",
        ) from error
    except UnicodeDecodeError:
        raise ConfigError(
            f"the secret file {path} is no text in UTF-8. Write a passphrase into it.", code="secret-unreadable"
        ) from None
    if len(data) > _MOST_BYTES:
        raise ConfigError(
            f"the secret file {path} is too large to be one. Write a passphrase into it, one a line.",
            code="secret-unreadable",
        )
    try:
        return Secrets.read(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}", code="bad-secret") from None


def exposed(path: Path) -> bool:
    """Whether other users of this PC can read the file; on Windows its access list is not looked at."""
    try:
        return os.name == "posix" and bool(path.stat().st_mode & 0o077)
    except OSError:
        return False
