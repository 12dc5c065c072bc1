"""The command `learnae bundle`."""

from __future__ import annotations

import os
import zipfile
from datetime import datetime
from pathlib import Path

import click

from learnae.cli.bundle.collection import collect, secrets
from learnae.cli.bundle.redaction import Redactor
from learnae.errors import StoreError
from learnae.home import default_home


@click.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--home", type=click.Path(path_type=Path), envvar="LEARNAE_HOME", help="Directory that holds the profiles."
)
@click.option("--addresses", is_flag=True, help="Leave IP addresses as they are; others get to know them.")
def bundle(file: Path | None, home: Path | None, addresses: bool) -> None:
    """Collect logs, settings and the state of all profiles in FILE, a zip, for somebody who helps.

    Keys, tokens and passphrases are not in it. IP addresses get other names, the same one everywhere, and your home
    directory becomes ~. Peer ids stay. Look into it before you hand it on.
    """
    home = (home or default_home()).absolute()
    file = file or Path(f"learnae-bundle-{datetime.now():%Y%m%d-%H%M%S}.zip")
    redactor = Redactor(secrets(home), Path.home(), addresses=addresses)
    found = [(name, redactor.text(text).encode()) for name, text in collect(home)]
    for name, data in found:
        redactor.check(name, data)
    try:
        with (
            os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream,
            zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for name, data in found:
                archive.writestr(name, data)
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}. Name another FILE.") from error
    for name, data in found:
        click.echo(f"{len(data):>10}  {name}")
    click.echo(f"wrote {file}: look into it before you hand it on")
