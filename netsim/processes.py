"""What Linux tells about processes: memory, CPU time, children, an environment's mark; used by `daemons`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def alive(pid: int) -> bool:
    """Whether the process exists and has not ended: a zombie has."""
    try:
        return _stat(pid)[0] not in "ZX"
    except _GONE:
        return False


def resident(pid: int) -> int:
    """Resident memory in bytes, shared pages included."""
    return _status(pid, "VmRSS")


def peak(pid: int) -> int:
    """The most resident memory so far, in bytes."""
    return _status(pid, "VmHWM")


def cpu_seconds(pid: int) -> float:
    """CPU time used so far, user and system, of the process alone (not of its children)."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS


def descendants(pid: int) -> list[int]:
    """Children, their children and so on, oldest first; empty if the process is gone."""
    found: list[int] = []
    with suppress(*_GONE):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def libraries(pid: int) -> set[str]:
    """File names of everything mapped into the process: shared libraries and extension modules among them."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {Path(line.split(maxsplit=5)[5]).name for line in lines if len(line.split(maxsplit=5)) == 6}


def command_line(pid: int) -> str:
    """The command line, for messages; empty if the process is gone."""
    with suppress(*_GONE):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def marked(name: str, value: str) -> list[int]:
    """The living processes that were started with `name=value` in their environment."""
    wanted = f"{name}={value}".encode()
    return [pid for pid, environment in _environments() if wanted in environment and alive(pid)]


def marks(name: str) -> set[str]:
    """The values of the variable `name` in the environments of all living processes."""
    prefix = f"{name}=".encode()
    return {
        entry.removeprefix(prefix).decode(errors="replace")
        for pid, environment in _environments()
        for entry in environment
        if entry.startswith(prefix) and alive(pid)
    }


def kill(pids: list[int]) -> None:
    """SIGKILL to each; those that are gone already are fine."""
    for pid in pids:
        with suppress(*_GONE):
            os.kill(pid, signal.SIGKILL)


def _environments() -> Iterator[tuple[int, list[bytes]]]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(*_GONE):
                yield int(path.name), (path / "environ").read_bytes().split(b"\0")


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; the name before it may hold blanks and brackets."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has ended")
