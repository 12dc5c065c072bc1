"""The service managers: systemd and launchd, each told by its own command; used by `commands`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from learnae.cli.service import unit
from learnae.errors import DaemonError

_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What the manager says: ``installed``, ``enabled`` to start by itself, ``active``; ``detail`` in its words."""

    installed: bool
    enabled: bool
    active: bool
    detail: str


class Manager(Protocol):
    """One system's way to keep a program running."""

    path: Path
    """Where the unit lies."""
    hint: str
    """What the user may want to do besides."""

    def unit(self, executable: Path, home: Path) -> str:
        """The unit's text."""

    def install(self, text: str) -> None:
        """Write the unit, and start the service now and with every session. Raises DaemonError."""

    def uninstall(self) -> None:
        """Stop it, and remove the unit. Raises DaemonError."""

    def state(self) -> ServiceState:
        """How it stands with it. Raises DaemonError."""


def manager() -> Manager:
    """That of this system.

    Raises:
        DaemonError: there is none that learnae knows.
    """
    if sys.platform == "darwin":
        return Launchd()
    if sys.platform == "win32":
        raise DaemonError("Windows has scheduled tasks for this: `learnae service install --print` shows the command.")
    if shutil.which("systemctl") is None:
        raise DaemonError(
            "there is no systemctl here, so no service can be installed: have your init system run `learnaed run` "
            "as your user; `learnae service install --print` shows a unit to start from."
        )
    return Systemd()


class Systemd:
    """A user's systemd; it runs while the user is logged in, or always after `loginctl enable-linger`."""

    hint = "To keep it running when you are logged out: loginctl enable-linger"

    def __init__(self) -> None:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        self.path = base / "systemd" / "user" / unit.SYSTEMD

    def unit(self, executable: Path, home: Path) -> str:
        """The unit's text."""
        return unit.systemd(executable, home)

    def install(self, text: str) -> None:
        """Write the unit, and start the service now and with every session. Raises DaemonError."""
        _write(self.path, text)
        _tell("systemctl", "--user", "daemon-reload")
        _tell("systemctl", "--user", "enable", unit.SYSTEMD)
        _tell("systemctl", "--user", "restart", unit.SYSTEMD)

    def uninstall(self) -> None:
        """Stop it, and remove the unit. Raises DaemonError."""
        if self.path.exists():
            _tell("systemctl", "--user", "disable", "--now", unit.SYSTEMD)
            self.path.unlink(missing_ok=True)
            _tell("systemctl", "--user", "daemon-reload")

    def state(self) -> ServiceState:
        """How it stands with it. Raises DaemonError."""
        enabled = _ask("systemctl", "--user", "is-enabled", unit.SYSTEMD)
        active = _ask("systemctl", "--user", "is-active", unit.SYSTEMD)
        return ServiceState(self.path.exists(), enabled == "enabled", active == "active", active)


class Launchd:
    """A macOS user's launchd; it runs while the user is logged in."""

    hint = "It runs while you are logged in."

    def __init__(self) -> None:
        self.path = Path.home() / "Library" / "LaunchAgents" / unit.LAUNCHD
        self._label = self.path.stem

    @property
    def _domain(self) -> str:
        return f"gui/{os.getuid()}"

    def unit(self, executable: Path, home: Path) -> str:
        """The unit's text."""
        return unit.launchd(executable, home)

    def install(self, text: str) -> None:
        """Write the unit, and start the service now and with every session. Raises DaemonError."""
        _ask("launchctl", "bootout", f"{self._domain}/{self._label}")  # an older one, if there is one
        _write(self.path, text)
        _tell("launchctl", "bootstrap", self._domain, str(self.path))

    def uninstall(self) -> None:
        """Stop it, and remove the unit. Raises DaemonError."""
        if self.path.exists():
            _ask("launchctl", "bootout", f"{self._domain}/{self._label}")
            self.path.unlink(missing_ok=True)

    def state(self) -> ServiceState:
        """How it stands with it. Raises DaemonError."""
        told = _ask("launchctl", "print", f"{self._domain}/{self._label}")
        active = "state = running" in told
        return ServiceState(self.path.exists(), self.path.exists(), active, "running" if active else "not running")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DaemonError(f"{path} cannot be written: {error.strerror}. Check its directory's permissions.") from error


def _tell(*command: str) -> None:
    done = _run(command)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split()) or f"it ended with {done.returncode}"
        raise DaemonError(
            f"`{' '.join(command)}` failed: {said}. Without a session of your own (over su, or in a container) there "
            "is no service manager to talk to: log in as the user whose service it is to be."
        )


def _ask(*command: str) -> str:
    return _run(command).stdout.strip()


def _run(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DaemonError(f"`{' '.join(command)}` cannot be run: {error}. Check that your session works.") from error
