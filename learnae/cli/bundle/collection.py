"""What goes into a bundle: this PC, its settings, each profile's logs and state; used by `command`."""

from __future__ import annotations

import json
import os
import platform
import stat
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from learnae import __version__
from learnae.cli import daemons
from learnae.config import Config
from learnae.errors import LearnaeError
from learnae.home import LOG_FILE, SUMMARY_FILE, TOKEN_FILE

MOST_OF_A_LOG = 2 * 1024 * 1024
"""Bytes, from its end."""
_ANSWERS = ("status", "peers", "snapshots", "limits", "doctor", "history")
_KEY_FILE = "identity.key"


def secrets(home: Path) -> Iterator[bytes]:
    """Everything under `home` that nobody else may know: tokens, keys, passphrases."""
    patterns = (f"*/{TOKEN_FILE}", f"*/{_KEY_FILE}", "*secret*", "*/*secret*")
    for path in {path for pattern in patterns for path in home.glob(pattern)}:
        if path.is_file():
            data = path.read_bytes()[:65536]
            yield data
            yield from data.split()
    if phrase := os.environ.get("LEARNAE_SECRET"):
        yield phrase.encode()


def collect(home: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each file of the bundle; nothing is taken out of them yet."""
    yield "about.txt", _about()
    yield "settings.json", _settings(home)
    file = home / "learnae.toml"
    if file.is_file():
        yield "learnae.toml", file.read_text(encoding="utf-8", errors="replace")
    running = {daemon.directory: daemon for daemon in daemons.find(home)}
    for profile in sorted(path for path in home.glob("*") if path.is_dir()):
        yield f"{profile.name}/files.txt", _listing(profile)
        for log in sorted(profile.glob(f"{LOG_FILE}*")):
            yield f"{profile.name}/{log.name}", _tail(log)
        if profile in running:
            yield from _answers(running[profile])
        elif (summary := profile / SUMMARY_FILE).is_file():
            yield f"{profile.name}/{SUMMARY_FILE}", summary.read_text(encoding="utf-8", errors="replace")


def _about() -> str:
    lines = [
        f"learnae {__version__}",
        f"python {sys.version}",
        f"system {platform.platform()}",
        f"cores {os.cpu_count()}",
        "",
        *sorted({f"{found.metadata['Name']}=={found.version}" for found in distributions()}, key=str.lower),
    ]
    return "\n".join(lines) + "\n"


def _settings(home: Path) -> str:
    try:
        rows = Config.survey({"home": home}, os.environ)
    except LearnaeError as error:
        return json.dumps({"error": str(error)}, indent=1)
    return json.dumps({name: [str(value), source] for name, (value, source) in rows.items()}, indent=1)


def _listing(profile: Path) -> str:
    lines = []
    for path in sorted(profile.glob("*")):
        try:
            found = path.stat()
        except OSError as error:
            lines.append(f"? {path.name}: {error.strerror}")
            continue
        lines.append(f"{stat.filemode(found.st_mode)} {found.st_size:>14} {path.name}")
    return "\n".join(lines) + "\n"


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MOST_OF_A_LOG))
        return file.read().decode(errors="replace")


def _answers(daemon: daemons.Daemon) -> Iterator[tuple[str, str]]:
    for name in _ANSWERS:
        try:
            answer: Any = daemon.get(f"/api/{name}")
        except LearnaeError as error:
            answer = {"error": str(error)}
        yield f"{daemon.profile}/{name}.json", json.dumps(answer, indent=1)
