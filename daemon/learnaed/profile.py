"""A profile: the directory with one node's state, held by one daemon at a time; opened by `app`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from learnae.errors import ConfigError, StoreError, disk_code

DEFAULT = "default"
_MOST = 256


@contextmanager
def open_profile(home: Path, name: str | None) -> Iterator[Path]:
    """Hold a profile directory while the block runs.

    Args:
        home: the directory that holds the profiles.
        name: the profile. None takes "default" or, where other daemons run, the first free of "default-2",
            "default-3" ..., so that the same command can be given twice on one PC.

    Raises:
        ConfigError: another daemon runs as the profile that was asked for.
        StoreError: the directory cannot be made.
    """
    names = [name] if name else [DEFAULT, *(f"{DEFAULT}-{number}" for number in range(2, _MOST))]
    for candidate in names:
        directory = home / candidate
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = FileLock(directory / "lock", timeout=0)
            lock.acquire()
        except Timeout:
            continue
        except OSError as error:
            raise StoreError(
                f"the profile directory {directory} cannot be used: {error.strerror}; "
                "give another with --home, or correct its owner",
                code=disk_code(error, "profile-unusable"),
            ) from error
        try:
            yield directory
        finally:
            lock.release()
        return
    raise ConfigError(
        f"another learnaed is running as profile {names[0]!r} in {home}: "
        "stop it with `learnae stop`, or give this one another --profile",
        code="profile-in-use",
    )
