"""What the commands share: where daemons are looked for, which one is meant, exit codes, errors as one block."""

from __future__ import annotations

import importlib
import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from learnae.cli import completing
from learnae.errors import ConfigError, LearnaeError, coded
from learnae.home import default_home

if TYPE_CHECKING:
    from learnae.cli.daemons import Daemon

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

_AS_JSON = "learnae.as_json"
_SENTENCE = 200
"""Characters of a command's first sentence that the list of commands shows; wrapped where it is narrow."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Group(click.Group):
    """A group whose commands are imported when they are needed, so that none is slow because of another's imports.

    Shows learnae's own errors as one block, without a traceback, and ends with 130 on Ctrl+C. ``lazy``: name of a
    command to "module:attribute". ``sections``: heading of the help to the names below it; a name that is no command
    is passed over, a command of no section comes under the last heading.
    """

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, str] | None = None,
        sections: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy or {})
        self._sections = {heading: tuple(names) for heading, names in (sections or {"Commands": ()}).items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order in which they were given."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, if there is one."""
        place = self._lazy.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with what they do in short, under their headings."""
        there = self.list_commands(ctx)
        placed = {name for names in self._sections.values() for name in names}
        *_, last = self._sections
        for heading, names in self._sections.items():
            listed = [name for name in names if name in there]
            if heading == last:
                listed += [name for name in there if name not in placed]
            rows = []
            for name in listed:
                command = self.get_command(ctx, name)
                assert command is not None
                rows.append((name, command.get_short_help_str(_SENTENCE)))
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except LearnaeError as error:
            click.echo(_shown(error, bool(ctx.meta.get(_AS_JSON))), err=True)
            ctx.exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_ERROR)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)


def _shown(error: LearnaeError, as_json: bool) -> str:
    if as_json:
        return json.dumps({"error": str(error) or type(error).__name__, "code": error.code})
    return textwrap.fill(coded(error), 100, initial_indent="learnae: ", subsequent_indent="  ", break_on_hyphens=False)


class UsageError(click.UsageError):
    """The command line is wrong in a way that only learnae knows; its code comes before its text.

    Args:
        code: which situation this is, as in `docs/errors.md`.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(f"[{code}] {message}")


def where(command: _Command) -> _Command:
    """Give a command the options --home and --profile."""
    home = click.option(
        "--home", type=click.Path(path_type=Path), envvar="LEARNAE_HOME", help="Directory that holds the profiles."
    )
    profile = click.option(
        "--profile", metavar="NAME", shell_complete=completing.profiles, help="Only the daemon of this profile."
    )
    return profile(home(command))


def as_lines(command: _Command) -> _Command:
    """Give a command the option --json, as `as_json`. Errors are then JSON too, on standard error."""
    text = "One JSON object a line, one line a daemon."
    return click.option("--json", "as_json", is_flag=True, callback=_note_json, help=text)(command)


def _note_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    ctx.meta[_AS_JSON] = value
    return value


def example(command: click.Command, *lines: str) -> click.Command:
    """Give a command's help examples at its end."""
    command.epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
    return command


def found(home: Path | None, profile: str | None) -> list[Daemon]:
    """The running daemons, or the one of `profile`.

    Raises:
        DaemonError: there is none.
    """
    from learnae.cli import daemons

    return daemons.select(home or default_home(), profile)


def one(home: Path | None, profile: str | None) -> Daemon:
    """The only daemon that runs here, or the one of `profile`.

    Raises:
        DaemonError: there is none.
        UsageError: there are several.
    """
    several = found(home, profile)
    if len(several) > 1:
        names = ", ".join(daemon.profile for daemon in several)
        raise UsageError(f"{len(several)} daemons run here: {names}. Say --profile NAME.", code="several-daemons")
    return several[0]
