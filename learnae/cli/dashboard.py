"""`learnae dashboard`: opens a daemon's page in the browser, with the right to steer it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from learnae.cli.common import one, where
from learnae.home import STATUS_FILE


@click.command()
@where
@click.option("--print", "shown", is_flag=True, help="Print the link instead of opening it.")
def dashboard(home: Path | None, profile: str | None, shown: bool) -> None:
    """Open the dashboard in the browser.

    The link works once, within a minute; the browser may then steer the daemon until that ends. Without it, the page
    at the same address can only be read. Over SSH, forward the port first: ssh -L 4118:127.0.0.1:4118 PC
    """
    import webbrowser

    daemon = one(home, profile)
    url = f"{daemon.url}/?ticket={daemon.ticket()}"
    if shown:
        click.echo(url)
        if remote := _remote(daemon.directory):
            click.echo(f"http://{remote}/?ticket={daemon.ticket()}")
    elif webbrowser.open(url):
        click.echo(f"{daemon.profile}: opened {daemon.url} in the browser")
    else:
        click.echo(f"no browser can be started here; open this link, once, within a minute:\n{url}")


def _remote(directory: Path) -> str | None:
    """The address for other machines, if the daemon has one."""
    content = json.loads((directory / STATUS_FILE).read_text(encoding="utf-8"))
    found = content.get("remote")
    return str(found) if found else None
