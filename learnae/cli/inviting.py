"""`learnae invite` and `secret`: bring other PCs into a swarm, and make the secret of a private one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from learnae.cli.common import one, where
from learnae.errors import ConfigError

if TYPE_CHECKING:
    from learnae.club import Secrets

_OWN_ADDRESSES = 4
_OTHERS = 3


@click.command()
@where
@click.option("--qr", is_flag=True, help="Show it as a QR code too, for a camera.")
@click.option("--yes", is_flag=True, help="Do not ask before a secret is printed.")
@click.option(
    "--secret-file", type=click.Path(path_type=Path), help="The swarm's secret, where the daemon asked for it."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object: line, topic, task, peers, private.")
def invite(
    home: Path | None, profile: str | None, qr: bool, yes: bool, secret_file: Path | None, as_json: bool
) -> None:
    """Print one line with which `learnaed join` brings another PC into the swarm.

    It holds the topic, the task, addresses of this node and of others, and the secret of a private swarm. It does
    not expire: the way to take it back is to change the secret.
    """
    from learnae.invitation import Invitation
    from learnae.tasks import BUILT_IN

    daemon = one(home, profile)
    status = daemon.get("/api/status")
    secrets = _secrets(status, secret_file) if status.get("private") else None
    task = status["task"] if status["task"] in BUILT_IN else None
    peers = tuple(_addresses(status, daemon.get("/api/peers")))
    line = Invitation(status["topic"], task, peers, secrets).line()
    if secrets is not None:
        click.echo(
            "This line holds the secret of a private swarm: whoever reads it can join and read everything. Send it "
            "only where you would send a password.",
            err=True,
        )
        if not yes and sys.stdin.isatty() and sys.stdout.isatty():
            click.confirm("Print it?", abort=True, err=True)
    if task is None:
        click.echo(
            f"It cannot hold the task {status['task']}: send that file too, and have it named with "
            "`learnaed join --task FILE.py:CLASS`.",
            err=True,
        )
    if as_json:
        about = {"topic": status["topic"], "task": task, "peers": list(peers), "private": secrets is not None}
        click.echo(json.dumps({"line": line, **about}))
    else:
        click.echo(line)
    if qr:
        import segno

        segno.make(line, error="l", micro=False).terminal(out=sys.stderr if as_json else None, compact=True)


def _secrets(status: dict[str, Any], named: Path | None) -> Secrets:
    """From the daemon's file, never over its API; asked for where the daemon itself was told by a terminal."""
    from learnae.club import Secrets

    path = named or (Path(status["secret_file"]) if status.get("secret_file") else None)
    if path is not None:
        return _read(path)
    if text := os.environ.get("LEARNAE_SECRET"):
        return Secrets.read(text)
    if not sys.stdin.isatty():
        raise ConfigError(
            "the daemon's secret is in no file, and there is no terminal to ask. Say --secret-file FILE.",
            code="secret-missing",
        )
    return Secrets([click.prompt("The swarm's secret", hide_input=True, err=True, type=str)])


def _addresses(status: dict[str, Any], peers: list[dict[str, Any]]) -> list[str]:
    """Where to begin: this node, and a few others, in case that it is away by then."""
    own = [address for address in status["listen"] if "/p2p/" in address][:_OWN_ADDRESSES]
    others = []
    for row in peers:
        if row.get("connected") and row.get("swarm_match"):
            found = [a if "/p2p/" in a else f"{a}/p2p/{row['peer']}" for a in row["addresses"]]
            others += [address for address in found if "/ip4/127." not in address and "/ip6/::1/" not in address][:1]
    return [*own, *others[:_OTHERS]]


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--rotate", type=click.Choice(["add", "promote", "drop"]), help="A step of changing the secret in FILE.")
def secret(file: Path, rotate: str | None) -> None:
    """Make the secret of a private swarm, in FILE, readable for you alone; or change it while the swarm runs.

    \b
    To change it, take three steps, and copy the file to all nodes after each, before the next:
      --rotate add      a new secret is put last: it opens, the old one still seals
      --rotate promote  the last one is put first: it seals, the old one still opens
      --rotate drop     only the first one stays: who does not know it is out
    Daemons take a changed file up within seconds.
    """
    from learnae.club import Secrets

    if rotate is None and file.exists():
        raise ConfigError(
            f"{file} is there already. Say --rotate to change the secret in it, or name another file.",
            code="file-exists",
        )
    if rotate is None:
        _write(file, Secrets.fresh())
        click.echo(f"wrote {file}: start nodes with --secret-file {file}")
        return
    lines = list(_read(file))
    if rotate == "add":
        changed = Secrets([*lines, *Secrets.fresh()])
    elif len(lines) == 1:
        raise ConfigError(
            f"{file} has one secret only, so there is none to {rotate}. Begin with --rotate add.", code="bad-secret"
        )
    else:
        changed = Secrets([lines[-1], *lines[:-1]] if rotate == "promote" else lines[:1])
    _write(file, changed)
    click.echo(f"{file} has {len(changed)} {'secret' if len(changed) == 1 else 'secrets'} now: copy it to all nodes")


def _read(path: Path) -> Secrets:
    from learnae.club import Secrets

    try:
        return Secrets.read(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the secret file {path} cannot be read: {error}. Correct the path.", code="secret-unreadable"
        ) from error


def _write(path: Path, secrets: Secrets) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(secrets.text)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}. Name another file.", code="file-unwritable"
        ) from error
