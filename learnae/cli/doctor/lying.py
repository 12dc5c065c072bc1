"""What lies on the disk: settings, the profile's files, its database; used by `gathering`. Reads only."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from learnae.cli.doctor.facts import Database, File, Settings
from learnae.config import FILE_NAME, Config
from learnae.config.parsers import parse
from learnae.config.sources import first_path, from_environment, from_file
from learnae.errors import ConfigError
from learnae.home import LOG_FILE, STATUS_FILE, SUMMARY_FILE, TOKEN_FILE

KEY_FILE = "identity.key"
DATABASE = "ledger.sqlite"
_NAMES = (KEY_FILE, TOKEN_FILE, STATUS_FILE, SUMMARY_FILE, LOG_FILE, DATABASE, "trainer", "snapshots", "ipfs.json")
_CHECK_SECONDS = 5.0
_TAIL = 16 * 1024


def settings(home: Path, environment: Mapping[str, str]) -> Settings:
    """The settings in environment and file, and the first that is wrong."""
    names = [field.name for field in fields(Config)]
    layers = [from_environment(names, environment)]
    named, values, error = None, dict[str, Any](), None
    try:
        named = first_path(layers, "config")
        layers.append(from_file(names, named, home))
    except ConfigError as problem:
        error = problem
    for layer in reversed(layers):
        for name, (source, value) in layer.items():
            try:
                values[name] = parse(name, value, source)
            except ConfigError as problem:
                error = error or problem
    there = named or home / FILE_NAME
    file = there if named is not None or there.is_file() else None
    return Settings(file, values, error.code if error else None, str(error) if error else "")


def state(profile: Path) -> tuple[bool, str | None]:
    """Whether the profile is there, and why it cannot be looked into."""
    try:
        list(profile.iterdir())
    except FileNotFoundError:
        return False, None
    except OSError as error:
        return True, error.strerror or str(error)
    return True, None


def files(profile: Path) -> tuple[File, ...]:
    """The profile itself (".") and what of the known files is in it."""
    found = (_file(profile if name == "." else profile / name, name) for name in (".", *_NAMES))
    return tuple(file for file in found if file is not None)


def _file(path: Path, name: str) -> File | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return File(
        name,
        stat.S_IMODE(about.st_mode),
        _stranger(about.st_uid),
        os.access(path, os.R_OK),
        os.access(path, os.W_OK),
        about.st_size,
    )


def _stranger(uid: int) -> str | None:
    if os.name != "posix" or uid == os.geteuid():
        return None
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def key_bytes(profile: Path) -> int | None:
    """How long the key is."""
    try:
        return len((profile / KEY_FILE).read_bytes())
    except OSError:
        return None


def last_use(profile: Path) -> float:
    """When the log was written last (Unix time)."""
    try:
        return (profile / LOG_FILE).stat().st_mtime
    except OSError:
        return 0.0


def summary(profile: Path) -> dict[str, Any]:
    """The last status of the last daemon that ended cleanly here."""
    try:
        found = json.loads((profile / SUMMARY_FILE).read_text(encoding="utf-8"))["status"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def last_words(profile: Path) -> str | None:
    """The last error in the log's end; its last line, if there is none."""
    try:
        with (profile / LOG_FILE).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    errors = [line for line in lines if " ERROR " in line or '"level": "error"' in line]
    last = next(iter((errors or lines)[-1:]), "").strip()
    return "".join(character if character.isprintable() else " " for character in last)[:300] or None


def database(profile: Path, look_inside: bool) -> Database | None:
    """The ledger. A daemon that runs has looked inside itself, and may write while we would."""
    path, aside = profile / DATABASE, profile / f"{DATABASE}.damaged"
    since = 0.0
    try:
        there, damaged = path.is_file(), aside.is_file()
        since = aside.stat().st_mtime if damaged else 0.0
    except OSError:
        there = damaged = False
    if not there and not damaged:
        return None
    verdict = _quick_check(path) if there and look_inside else None
    return Database(verdict, aside if damaged else None, since)


def _quick_check(path: Path) -> str:
    deadline = time.monotonic() + _CHECK_SECONDS
    try:
        # Without a log of SQLite's beside it, nothing needs to be made in order to read it.
        alone = not path.with_name(f"{path.name}-wal").exists()
        uri = f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' if alone else ''}"
        with closing(sqlite3.connect(uri, uri=True, timeout=1.0)) as connection:
            connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
            return str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            return "ok"  # as far as it was looked at, which is what the daemon does
        return str(error)
