"""Gathers all facts about one profile; used by `learnae doctor`. Nothing here judges, and nothing is changed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from learnae.cli import daemons
from learnae.cli.doctor import asking, lying, machine, probing
from learnae.cli.doctor.facts import Daemon, Facts
from learnae.home import STATUS_FILE

_LISTEN = ("/ip4/0.0.0.0/tcp/4117",)


def profiles(home: Path, name: str | None) -> list[Path]:
    """Which profiles to look into: the one that is named; else those with a daemon, alive or dead without having tidied
    up; else the one that was used last; else the one that a first start would make."""
    if name is not None:
        return [home / name]
    found = sorted(path.parent for path in _glob(home, f"*/{STATUS_FILE}"))
    used = sorted((path.parent for path in _glob(home, "*/identity.key")), key=lying.last_use)
    return found or used[-1:] or [home / "default"]


def _glob(home: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from home.glob(pattern)
    except OSError:
        return  # What cannot be listed is found out when the profile is looked into.


def gather(profile: Path, environment: Mapping[str, str] = os.environ) -> Facts:
    """The facts about this profile, its daemon if one runs, and this PC. Takes a few seconds: torch is imported."""
    home = profile.parent
    settings = lying.settings(home, environment)
    daemon = asking.daemon(profile)
    exists, error = lying.state(profile)
    answers = daemon is not None and daemon.answers
    values = _in_force(daemon, settings.values, lying.summary(profile))
    addresses = _announced(daemon)
    task = values.get("task") if not _trains(daemon) else None
    return Facts(
        now=time.time(),
        system=sys.platform,
        profile=profile,
        exists=exists,
        profile_error=error,
        files=lying.files(profile),
        key_bytes=lying.key_bytes(profile),
        settings=settings,
        database=lying.database(profile, look_inside=not answers),
        disk=machine.disk(profile),
        memory=machine.memory(),
        ports=() if answers else tuple(map(machine.port, values.get("listen") or _LISTEN)),
        reach=asking.reach(addresses),
        interfaces=machine.interfaces(),
        training=probing.training(task, values.get("data"), environment),
        ipfs=asking.ipfs(_ipfs_address(daemon), str(values.get("ipfs") or "auto")),
        daemon=daemon,
        neighbours=_neighbours(home, profile),
    )


def _in_force(daemon: Daemon | None, given: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the daemon; if there is none, those given, and the task that it trained last."""
    told = daemon.told.get("settings") if daemon is not None else None
    return dict(told) if told else {"task": last.get("task"), "data": last.get("data"), **given}


def _trains(daemon: Daemon | None) -> bool:
    trainer = (daemon.status.get("trainer") or {}) if daemon is not None else {}
    return bool(trainer.get("state") == "running")


def _announced(daemon: Daemon | None) -> list[str]:
    return list(daemon.told.get("announced", ())) if daemon is not None else []


def _ipfs_address(daemon: Daemon | None) -> str | None:
    ipfs = daemon.told.get("ipfs") if daemon is not None else None
    return ipfs.get("address") if ipfs else None


def _neighbours(home: Path, profile: Path) -> tuple[str, ...]:
    others = [other for other in daemons.find(home) if other.directory != profile]
    return tuple(address for other in others for address in asking.status(other).get("listen", ()))
