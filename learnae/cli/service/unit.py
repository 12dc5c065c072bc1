"""What a service manager is told: unit files with this PC's paths filled in; used by `manager`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

SYSTEMD: Final = "learnaed.service"
LAUNCHD: Final = "org.learnae.learnaed.plist"


def systemd(executable: Path, home: Path) -> str:
    """The unit of a systemd user service."""
    return _filled(SYSTEMD, executable=_command_word(executable), home=_word(home))


def launchd(executable: Path, home: Path) -> str:
    """The property list of a launchd agent."""
    return _filled(LAUNCHD, executable=escape(str(executable)), home=escape(str(home)))


def windows_task(executable: Path, home: Path) -> str:
    """The command by which a Windows user makes a scheduled task of it; docs/service.md explains it."""
    run = f'\\"{executable}\\" run --home \\"{home}\\"'
    return f'schtasks /Create /TN learnaed /SC ONLOGON /RL LIMITED /F /TR "{run}"'


def _filled(name: str, **values: str) -> str:
    text = (files("learnae.cli.service") / "units" / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace("{" + key + "}", value)
    return text


def _word(path: Path) -> str:
    """A path as systemd.syntax(7) quotes it; a percent sign begins a specifier."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"' if any(character in text for character in " \t'\"\\;") else text


def _command_word(path: Path) -> str:
    return _word(path).replace("$", "$$")
