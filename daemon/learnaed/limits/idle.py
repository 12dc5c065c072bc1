"""For how long nobody has touched keyboard, mouse or terminal, where the system tells; used by `sensors`.

Linux: the X11 screen saver extension, else what logind knows of all sessions (IdleHint, which desktops set after their
own delay), else the time of the last key in a terminal. macOS: Quartz event counters. Windows: GetLastInputInfo. The
calls for macOS and Windows are written from their documentation and have not been run.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

_PATIENCE = 2.0
_ANY_INPUT = 0xFFFFFFFF  # kCGAnyInputEventType
_HID_STATE = 1  # kCGEventSourceStateHIDSystemState

Probe = Callable[[], float | None]
"""Seconds since the last input; None: it cannot be told now."""


def probes() -> list[Probe]:
    """The ways that this system has; they may be asked for as long as the process lives."""
    if sys.platform == "win32":
        return [_windows]
    if sys.platform == "darwin":
        return [probe for probe in [_macos()] if probe is not None] + [terminals]
    found = [probe for probe in (_x11(), _logind()) if probe is not None]
    return [*found, terminals]


def idle_seconds(ways: list[Probe]) -> float | None:
    """The shortest that any of them tells: whoever works over ssh is there, too. None where none of them knows."""
    told = [seconds for seconds in (probe() for probe in ways) if seconds is not None]
    return min(told) if told else None


def terminals() -> float | None:
    """Since the last key in a terminal of any user; None where nobody is logged in at one."""
    latest = None
    for user in psutil.users():
        if user.terminal and not user.terminal.startswith(":"):
            try:
                pressed = Path("/dev", user.terminal.removeprefix("/dev/")).stat().st_atime
            except OSError:
                continue
            latest = pressed if latest is None else max(latest, pressed)
    return None if latest is None else max(0.0, time.time() - latest)


def _logind() -> Probe | None:
    tool = shutil.which("loginctl")
    if tool is None or not Path("/run/systemd/sessions").is_dir():
        return None
    command = [tool, "show", "--property=IdleHint", "--property=IdleSinceHint"]
    return lambda: read_logind(_output(command), time.time())


def read_logind(text: str | None, now: float) -> float | None:
    """Seconds of idleness from what `loginctl show` prints; None where it is not running, or knows of no session."""
    values = dict(line.split("=", 1) for line in (text or "").splitlines() if "=" in line)
    if values.get("IdleHint") == "no":
        return 0.0
    since = values.get("IdleSinceHint", "0")
    if values.get("IdleHint") != "yes" or not since.isdecimal() or since == "0":
        return None
    return max(0.0, now - int(since) / 1e6)


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


class _ScreenSaverInfo(ctypes.Structure):
    _fields_ = (
        ("window", ctypes.c_ulong),
        ("state", ctypes.c_int),
        ("kind", ctypes.c_int),
        ("til_or_since", ctypes.c_ulong),
        ("idle", ctypes.c_ulong),
        ("event_mask", ctypes.c_ulong),
    )


def _x11() -> Probe | None:
    if not os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return None  # Under Wayland, X11 hears only of what its own windows get.
    x11, saver = _library("X11"), _library("Xss")
    if x11 is None or saver is None:
        return None
    x11.XOpenDisplay.restype = x11.XDefaultRootWindow.restype = ctypes.c_void_p
    x11.XOpenDisplay.argtypes = [ctypes.c_char_p]
    x11.XDefaultRootWindow.argtypes = [ctypes.c_void_p]
    x11.XCloseDisplay.argtypes = [ctypes.c_void_p]
    saver.XScreenSaverQueryInfo.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(_ScreenSaverInfo)]

    def probe() -> float | None:
        # Opened anew each time: Xlib ends the whole process when a connection that it keeps breaks.
        display = x11.XOpenDisplay(None)
        if not display:
            return None
        try:
            info = _ScreenSaverInfo()
            known = saver.XScreenSaverQueryInfo(display, x11.XDefaultRootWindow(display), ctypes.byref(info))
            return info.idle / 1000.0 if known else None
        finally:
            x11.XCloseDisplay(display)

    return probe


def _library(name: str) -> Any:
    path = ctypes.util.find_library(name)
    try:
        return ctypes.CDLL(path) if path else None
    except OSError:
        return None


def _macos() -> Probe | None:
    quartz = _library("ApplicationServices")
    if quartz is None:
        return None
    since = quartz.CGEventSourceSecondsSinceLastEventType
    since.restype = ctypes.c_double
    since.argtypes = [ctypes.c_int32, ctypes.c_uint32]
    return lambda: float(since(_HID_STATE, _ANY_INPUT))


class _LastInput(ctypes.Structure):
    _fields_ = (("size", ctypes.c_uint), ("time", ctypes.c_uint))


def _windows() -> float | None:
    system: Any = getattr(ctypes, "windll", None)
    if system is None:
        return None
    info = _LastInput(ctypes.sizeof(_LastInput), 0)
    if not system.user32.GetLastInputInfo(ctypes.byref(info)):
        return None
    now = system.kernel32.GetTickCount() & 0xFFFFFFFF
    return float((now - info.time) & 0xFFFFFFFF) / 1000.0  # The counter starts again after 49.7 days.
