"""Reads a daemon's rotated log: its last entries, and what is written from now on; used by `learnae logs`."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

LEVELS: Final = ("debug", "info", "warning", "error")
_RANK: Final = {**{level: rank for rank, level in enumerate(LEVELS)}, "critical": len(LEVELS)}
_TEXT: Final = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.,]\d{3}) ([A-Z]+) +(\S+) +(.*)")
_FIELD: Final = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|[^\s"=]+)')
_MOST_LINES: Final = 2000
"""Lines of one entry, of a traceback for instance."""

Position: TypeAlias = "tuple[int, int]"
"""(number of the file on its disk, bytes of it that have been read)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log, with the lines of its traceback behind the first. `level` is in lower case."""

    level: str
    lines: tuple[str, ...]

    def at_least(self, level: str) -> bool:
        """Whether it is of this level or of one above."""
        return _RANK.get(self.level, 0) >= _RANK[level]

    def fields(self) -> dict[str, Any]:
        """time (UTC), level, logger, event and the event's own fields, as a log in JSON has them."""
        first = self.lines[0]
        if (row := _json(first)) is not None:
            return row
        match = _TEXT.fullmatch(first)
        if match is None:
            return {"level": self.level, "event": "\n".join(self.lines)}
        event, fields = _split(match[4])
        time = datetime.fromisoformat(match[1].replace(",", ".")).astimezone(UTC)
        shown = {"time": time.isoformat(timespec="milliseconds"), "level": self.level, "logger": match[3]}
        more = {"traceback": "\n".join(self.lines[1:])} if len(self.lines) > 1 else {}
        return {**shown, "event": event, **fields, **more}


def entries(lines: Iterable[str]) -> Iterator[Entry]:
    """The entries that these lines make: one that begins none belongs to the one before."""
    level, gathered = "info", list[str]()
    for line in lines:
        begins = _level(line)
        if begins is not None or not gathered:
            if gathered:
                yield Entry(level, tuple(gathered))
            level, gathered = begins or "info", [line]
        elif len(gathered) < _MOST_LINES:
            gathered.append(line)
    if gathered:
        yield Entry(level, tuple(gathered))


def tail(path: Path, count: int, level: str = "debug", end: Position | None = None) -> list[Entry]:
    """The newest `count` entries of at least this level, oldest first, those of rotated files among them.

    `end`: how far the newest file is read; None: to its end.
    """
    if not count:
        return []
    newest: list[Entry] = []
    for file in _generations(path):
        kept: deque[Entry] = deque(maxlen=count - len(newest))
        limit = end[1] if end and _number(file) == end[0] else None
        kept.extend(entry for entry in entries(_lines(file, 0, limit)[0]) if entry.at_least(level))
        newest = [*kept, *newest]
        if len(newest) >= count:
            break
    return newest


class Follower:
    """Gives what is written to a log from now on. Keeps no file open, so that rotation works on Windows too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.position: Position = (_number(path) or 0, _whole_lines(path))
        """How far the log had been read when this was made, or at the last `poll`."""

    def poll(self) -> list[str]:
        """The whole lines that have come since; those at the end of a file that was rotated meanwhile too."""
        number, done = self.position
        generations = list(_generations(self._path))
        known = next((place for place, file in enumerate(generations) if _number(file) == number), None)
        unread = generations[: 1 if known is None else known + 1]
        found: list[str] = []
        for file in reversed(unread):
            # A file that shrank was emptied: it begins anew.
            begin = done if _number(file) == number and _size(file) >= done else 0
            lines, end = _lines(file, begin, None)
            found += lines
            self.position = (_number(file) or 0, end)
        return found


def _generations(path: Path) -> Iterator[Path]:
    """The log and what it was rotated to, the newest first."""
    if path.is_file():
        yield path
    number = 1
    while (old := path.with_name(f"{path.name}.{number}")).is_file():
        yield old
        number += 1


def _number(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _lines(path: Path, begin: int, end: int | None) -> tuple[list[str], int]:
    """The whole lines from byte `begin` on, and where they end."""
    try:
        with path.open("rb") as file:
            file.seek(begin)
            content = file.read() if end is None else file.read(max(end - begin, 0))
    except OSError:
        return [], begin  # Rotated away this moment; the next look finds it.
    whole = content.rfind(b"\n") + 1
    text = content[:whole].decode("utf-8", "replace")
    return [line.removesuffix("\r") for line in text.split("\n")[:-1]], begin + whole


def _whole_lines(path: Path) -> int:
    return _lines(path, 0, None)[1]


def _level(line: str) -> str | None:
    """The level of the entry that this line begins; None if it begins none."""
    if (row := _json(line)) is not None:
        return str(row.get("level", "info")).lower()
    match = _TEXT.match(line)
    return match[2].lower() if match and match[2].lower() in _RANK else None


def _json(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and "event" in row else None


def _split(text: str) -> tuple[str, dict[str, str]]:
    """An event's words and the fields behind them: those that stand one after the other up to the end."""
    run: list[re.Match[str]] = []
    for match in _FIELD.finditer(text):
        if run and run[-1].end() != match.start():
            run = []
        run.append(match)
    if not run or run[-1].end() != len(text):
        return text, {}
    values = {match[1]: match[2] for match in run}
    return text[: run[0].start()], {key: _unquoted(value) for key, value in values.items()}


def _unquoted(value: str) -> str:
    try:
        return str(json.loads(value)) if value.startswith('"') else value
    except ValueError:
        return value
