"""`learnae config show`, `set`, `unset` and `path`: the file that tells a daemon how to run when it is told nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from learnae.config import FILE_NAME, Config, settable
from learnae.home import default_home

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _which(command: _Command) -> _Command:
    home = click.option(
        "--home", type=click.Path(path_type=Path), envvar="LEARNAE_HOME", help="Directory that holds the profiles."
    )
    file = click.option(
        "--config", "file", type=click.Path(path_type=Path), envvar="LEARNAE_CONFIG", help=f"Not {FILE_NAME} in home."
    )
    return home(file(command))


def _path(home: Path | None, file: Path | None) -> Path:
    return (file or (home or default_home()) / FILE_NAME).absolute()


@click.group("config")
def config() -> None:
    """Look at and change what daemons of this PC use where no flag and no variable says otherwise.

    \b
    Examples:
      learnae config set topic hello
      learnae config set task digits
      learnae config set listen /ip4/0.0.0.0/tcp/4117
      learnae config show
    A daemon that runs takes it up when it is started again.
    """


@config.command()
@_which
def path(home: Path | None, file: Path | None) -> None:
    """Print where the file is, or would be."""
    click.echo(_path(home, file))


@config.command()
@_which
@click.option("--json", "as_json", is_flag=True, help="One JSON object: name to value and source.")
@click.option("--all", "everything", is_flag=True, help="What is at its default, too.")
def show(home: Path | None, file: Path | None, as_json: bool, everything: bool) -> None:
    """What `learnaed run` without flags would use, and where each value comes from.

    Ends with 2 if the file is wrong.
    """
    flags = {"home": home, "config": file}
    rows = Config.survey({name: value for name, value in flags.items() if value}, os.environ)
    if as_json:
        table = {name: {"value": _plain(value), "source": source} for name, (value, source) in rows.items()}
        click.echo(json.dumps(table))
        return
    for name, (value, source) in rows.items():
        if everything or source != "default":
            click.echo(f"{name} = {_shown(value)}  # {source}")
    hidden = 0 if everything else sum(source == "default" for _, source in rows.values())
    if hidden:
        click.echo(f"# {hidden} more at their defaults: --all", err=True)


@config.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("name", metavar="SETTING")
@click.argument("values", metavar="VALUE...", nargs=-1, required=True)
@_which
def set_(name: str, values: tuple[str, ...], home: Path | None, file: Path | None) -> None:
    """Write SETTING into the file, once VALUE is found to be valid. Several values make a list."""
    from learnae.config.file import change

    place = settable(name)
    value = place.parse(values)
    change(_path(home, file), {place.key: value})
    click.echo(f"{place.key} = {_shown(value)}")


@config.command()
@click.argument("name", metavar="SETTING")
@_which
def unset(name: str, home: Path | None, file: Path | None) -> None:
    """Take SETTING out of the file: its default, or a variable, holds again."""
    from learnae.config.file import change

    place = settable(name)
    change(_path(home, file), {place.key: None})
    click.echo(f"{place.key} is not in the file")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False) if value is not None else "(none)"
