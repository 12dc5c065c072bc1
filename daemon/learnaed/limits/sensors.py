"""Looks at the PC: who uses it, its power, the node's memory and files; asked by `warden`, in a thread."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from learnaed.limits import idle
from learnaed.limits.quiet import Quiet
from learnaed.limits.verdict import Conditions

_SIZES_EVERY = 30.0
"""Seconds between two looks at the sizes of files."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look: what the verdict needs, and the memory of the node's processes."""

    conditions: Conditions
    daemon_memory: int
    """Resident bytes, shared libraries included."""
    trainer_memory: int
    other_files: int
    """Bytes of everything but the blocks of snapshots: database, logs, the trainer's state."""


class Sensors:
    """What psutil and the system tell.

    Args:
        profile: the node's directory: what lies there counts.
        blocks: where in it the blocks of snapshots lie, which are too many to look at.
        blocks_size: their bytes.
    """

    def __init__(self, profile: Path, blocks: Path, blocks_size: Callable[[], int]) -> None:
        self._profile = profile
        self._blocks = blocks
        self._blocks_size = blocks_size
        self._daemon = psutil.Process()
        self._quiet = Quiet()
        self._ways: list[idle.Probe] | None = None
        self._trainer: psutil.Process | None = None
        self._ended = 0.0  # CPU seconds of trainers that are gone
        self._trainer_used = 0.0
        self._sizes = (float("-inf"), 0)

    def look(self, trainer: int | None, *, idle_wanted: bool) -> Look:
        """How things are now. `trainer`: its process, if there is one; `idle_wanted`: see who uses the PC, too."""
        self._follow(trainer)
        seconds, how = self._idle() if idle_wanted else (None, "input")
        others = self._other_files()
        conditions = Conditions(seconds, how, self._on_battery(), others + self._blocks_size())
        daemon = self._daemon.memory_info().rss
        return Look(conditions, daemon, self._trainer_memory(), others)

    def _follow(self, pid: int | None) -> None:
        if (self._trainer.pid if self._trainer is not None else None) == pid:
            return
        self._ended += self._trainer_used
        self._trainer, self._trainer_used = None, 0.0
        if pid is not None:
            try:
                self._trainer = psutil.Process(pid)
            except psutil.Error:
                self._trainer = None

    def _trainer_memory(self) -> int:
        try:
            return int(self._trainer.memory_info().rss) if self._trainer is not None else 0
        except psutil.Error:
            return 0

    def _idle(self) -> tuple[float | None, str]:
        if self._ways is None:
            self._ways = idle.probes()
        seconds = idle.idle_seconds(self._ways)
        if seconds is not None:
            return seconds, "input"
        return self._quiet.look(time.monotonic(), self._used_by_others(), os.cpu_count() or 1), "load"

    def _used_by_others(self) -> float:
        times = psutil.cpu_times()
        resting = times.idle + getattr(times, "iowait", 0.0)
        # On Linux what virtual machines use is counted twice, as guest and as user; what is stolen is used elsewhere.
        resting += sum(getattr(times, name, 0.0) for name in ("guest", "guest_nice", "steal"))
        busy = sum(times) - resting
        own = self._daemon.cpu_times()
        try:
            if self._trainer is not None:
                used = self._trainer.cpu_times()
                self._trainer_used = used.user + used.system
        except psutil.Error:
            pass
        return float(busy - own.user - own.system - self._trainer_used - self._ended)

    @staticmethod
    def _on_battery() -> bool | None:
        read = getattr(psutil, "sensors_battery", None)  # Not on every system.
        battery = read() if read is not None else None
        return None if battery is None or battery.power_plugged is None else not battery.power_plugged

    def _other_files(self) -> int:
        then, size = self._sizes
        now = time.monotonic()
        if now - then >= _SIZES_EVERY:
            size = _size_of(self._profile, self._blocks)
            self._sizes = (now, size)
        return size


def _size_of(directory: Path, without: Path) -> int:
    """Bytes of the files in a directory and below it."""
    found = 0
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    found += entry.stat(follow_symlinks=False).st_size
                elif Path(entry.path) != without:
                    found += _size_of(Path(entry.path), without)
    return found
