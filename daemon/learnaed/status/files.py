"""The files by which a client on this PC finds and steers a daemon, `status.json` and `token`; written by `server`."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from learnae.errors import StoreError, disk_code
from learnae.home import STATUS_FILE, TOKEN_FILE


def create_token(directory: Path) -> str:
    """A fresh random token, written to `directory/token` for this user alone (mode 0600).

    Raises:
        StoreError: the directory cannot be written.
    """
    token = secrets.token_urlsafe(32)
    write_private(directory / TOKEN_FILE, token)
    return token


def write_status(directory: Path, content: Mapping[str, Any]) -> None:
    """Write `status.json`: {"url", "pid", "peer", "topic"}."""
    write_private(directory / STATUS_FILE, json.dumps(dict(content)))


def remove_status(directory: Path) -> None:
    """Remove `status.json` if it is this process's own."""
    path = directory / STATUS_FILE
    try:
        if json.loads(path.read_text(encoding="utf-8"))["pid"] == os.getpid():
            path.unlink()
    except (OSError, ValueError, KeyError):
        pass  # Gone or somebody else's: nothing to tidy up.


def write_private(path: Path, text: str) -> None:
    """Replace a file at once, so that a reader sees the old or the new one; only this user may read it.

    Raises:
        StoreError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(
            f"{path} cannot be written: {error.strerror}. Check that the disk has room and the directory is yours.",
            code=disk_code(error, "file-unwritable"),
        ) from error
