"""The configuration file `learnae.toml`: its versions, how it is read and changed; used by `sources` and the CLI."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

import tomlkit
from tomlkit.exceptions import TOMLKitError

from learnae.errors import ConfigError

FILE_NAME: Final = "learnae.toml"
VERSION_KEY: Final = "version"


def _underscores(table: MutableMapping[str, Any]) -> None:
    """Version 0 had no number, and took "status-port" for "status_port"."""
    for key in [key for key in table if "-" in key]:
        table[key.replace("-", "_")] = table.pop(key)


_MIGRATIONS: tuple[Callable[[MutableMapping[str, Any]], None], ...] = (_underscores,)
"""The n-th brings a table of version n to version n + 1."""

VERSION: Final = len(_MIGRATIONS)


def load(path: Path) -> dict[str, Any]:
    """The settings in the file, as this version of learnae names them; the file itself stays as it is.

    Raises:
        ConfigError: it cannot be read, is no TOML, or was written by a newer learnae.
    """
    try:
        table = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the configuration file {path} is not valid TOML: {error}. Correct that place.") from error
    _migrate(table, path)
    table.pop(VERSION_KEY, None)
    return table


def change(path: Path, changes: Mapping[str, Any]) -> None:
    """Set or, with None, remove settings; "limits.upload" is `upload` in the table `[limits]`. Comments stay.

    The file is made if there is none, brought to this version, and replaced at once: a crash leaves the old or the new
    one. Only its user may read it.

    Raises:
        ConfigError: it cannot be read or written, is no TOML, or was written by a newer learnae.
    """
    try:
        document = tomlkit.parse(_read(path)) if path.exists() else tomlkit.document()
    except TOMLKitError as error:
        raise ConfigError(f"the configuration file {path} is not valid TOML: {error}. Correct that place.") from error
    _migrate(document, path)
    document.pop(VERSION_KEY, None)
    for name, value in changes.items():
        _set(document, name.split("."), value)
    _write(path, f"{VERSION_KEY} = {VERSION}\n{tomlkit.dumps(document)}")


def _set(table: MutableMapping[str, Any], place: list[str], value: Any) -> None:
    *parents, key = place
    for parent in parents:
        if value is None and parent not in table:
            return
        table = table.setdefault(parent, tomlkit.table())
    if value is None:
        table.pop(key, None)
    else:
        table[key] = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value


def _migrate(table: MutableMapping[str, Any], path: Path) -> None:
    version = table.get(VERSION_KEY, 0)
    if isinstance(version, bool) or not isinstance(version, int) or version < 0:
        raise ConfigError(f"{path} has the version {version!r}, which is none. Write {VERSION_KEY} = {VERSION}.")
    if version > VERSION:
        raise ConfigError(
            f"{path} has version {version}, and this learnae knows none above {VERSION}: a newer one wrote it. "
            "Update learnae, or give another file with --config."
        )
    for migration in _MIGRATIONS[version:]:
        migration(table)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"the configuration file {path} cannot be read: {error.strerror}. Check the path and its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the configuration file {path} is not valid TOML: {error}. Correct that place.") from error


def _write(path: Path, text: str) -> None:
    path = path.resolve()  # a link stays a link
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(
            f"the configuration file {path} cannot be written: {error.strerror}. Check the disk and its permissions."
        ) from error
