"""The commands `learnae service install`, `uninstall` and `status`."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import click

from learnae.cli.service import unit
from learnae.cli.service.manager import manager
from learnae.config import FILE_NAME, Config
from learnae.errors import ConfigError
from learnae.home import default_home

_home = click.option(
    "--home", type=click.Path(path_type=Path), envvar="LEARNAE_HOME", help="Directory that holds the profiles."
)


@click.group()
def service() -> None:
    """Have this PC keep a daemon running: systemd on Linux, launchd on macOS, a scheduled task on Windows.

    \b
    What it trains stands in the configuration file:
      learnae config set topic hello
      learnae config set task digits
      learnae service install
    """


@service.command()
@_home
@click.option("--print", "only_print", is_flag=True, help="Show what would be installed, and install nothing.")
def install(home: Path | None, only_print: bool) -> None:
    """Install the daemon as a service of this user, and start it now.

    Ends with 2 if the configuration file does not say what to train.
    """
    directory, executable = (home or default_home()).absolute(), _executable()
    if only_print:
        render = {"darwin": unit.launchd, "win32": unit.windows_task}.get(sys.platform, unit.systemd)
        click.echo(render(executable, directory), nl=sys.platform == "win32")
        return
    chosen = manager()
    config = _check(directory)
    if sys.platform == "linux" and (lost := [path for path in (str(directory), *_read(config)) if _temporary(path)]):
        click.echo(
            f"warning: a service has a /tmp of its own and will not find {' and '.join(lost)}: move it", err=True
        )
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)  # The service may write nowhere else, so not make it.
    chosen.install(chosen.unit(executable, directory))
    click.echo(f"installed and started: {chosen.path}\n{chosen.hint}\nWatch it with `learnae status`.")


@service.command()
def uninstall() -> None:
    """Stop the service and remove it. Profiles, with their keys and models, stay."""
    chosen = manager()
    if not chosen.path.exists():
        click.echo(f"not installed: there is no {chosen.path}")
        return
    chosen.uninstall()
    click.echo(f"stopped and removed: {chosen.path}")


@service.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Whether the service is installed, comes with the session, and runs.

    Ends with 3 if it does not run.
    """
    chosen = manager()
    state = chosen.state()
    if as_json:
        click.echo(json.dumps({**asdict(state), "unit": str(chosen.path)}))
    elif not state.installed:
        click.echo("not installed: `learnae service install` does that")
    else:
        click.echo(f"{state.detail}, {'starts' if state.enabled else 'does not start'} by itself: {chosen.path}")
    context.exit(0 if state.active else 3)


def _read(config: Config) -> list[str]:
    """Paths that the daemon reads, besides those in home."""
    task = config.task.rpartition(":")[0]
    return [str(path) for path in (config.secret_file, config.data, task) if path]


def _temporary(path: str) -> bool:
    return any(Path(path).expanduser().absolute().is_relative_to(place) for place in ("/tmp", "/var/tmp"))


def _check(home: Path) -> Config:
    """A service has no flags: the file must say it all. The variables here are not those that it will see."""
    variables = [name for name in os.environ if name.startswith("LEARNAE_") and name not in ("LEARNAE_HOME",)]
    try:
        return Config.resolve({"home": home}, {})
    except ConfigError as error:
        hint = f" ({', '.join(sorted(variables))} here is not known to a service.)" if variables else ""
        raise ConfigError(
            f"a service takes all from {home / FILE_NAME}: {error} Write it there with `learnae config set`.{hint}",
            code=error.code,
        ) from error


def _executable() -> Path:
    beside = Path(sys.executable).with_name("learnaed.exe" if sys.platform == "win32" else "learnaed")
    found = beside if beside.exists() else Path(shutil.which("learnaed") or beside)
    return found.absolute()
