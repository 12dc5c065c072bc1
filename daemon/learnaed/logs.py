"""Structured logs on the standard `logging`: an event and its key-values, as text or JSON; used by the whole daemon.

>>> log = get("network")
>>> log.info("peer connected", peer="12D3Koo...", address="/ip4/192.0.2.7/tcp/4117")
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from learnae.home import LOG_FILE

FILE_BYTES = 5 * 1024 * 1024
FILE_BACKUPS = 2

_PREFIX = "learnaed."
_OURS = ("learnaed", "learnae")
_RESERVED = ("time", "level", "logger", "event", "traceback")
_COLOURS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


class Log(logging.LoggerAdapter[logging.Logger]):
    """A logger whose extra keyword arguments become the event's fields: `log.info("event", key=value)`.

    `exc_info`, `stack_info` and `stacklevel` keep their usual meaning. Values are written with `str`.
    """

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        passed = {key: kwargs.pop(key) for key in ("exc_info", "stack_info", "stacklevel") if key in kwargs}
        return msg, {**passed, "extra": {"fields": dict(kwargs)}}


def get(name: str) -> Log:
    """The log of one part of the daemon, "network" for instance."""
    return Log(logging.getLogger(_PREFIX + name))


def explain(error: BaseException) -> str:
    """An exception as one line that is never empty; of a group, its first member that says something."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


@contextmanager
def configured(level: str, style: str, stream: TextIO | None = None) -> Iterator[None]:
    """Send logs to `stream` (default: standard error) while the block runs.

    Args:
        level: "debug", "info", "warning" or "error", for learnae's own loggers; everybody else's stay at "warning".
        style: "text" (coloured on a terminal, unless NO_COLOR is set) or "json".
        stream: where to write.
    """
    stream = stream or sys.stderr
    colours = stream.isatty() and "NO_COLOR" not in os.environ
    with _attached(logging.StreamHandler(stream), _formatter(style, colours)):
        previous = {name: logging.getLogger(name).level for name in _OURS}
        for name in _OURS:
            logging.getLogger(name).setLevel(level.upper())
        try:
            yield
        finally:
            for name, value in previous.items():
                logging.getLogger(name).setLevel(value)


@contextmanager
def to_file(directory: Path, style: str) -> Iterator[Path]:
    """Write the same logs to `learnaed.log` in the profile directory too, rotated at 5 MiB, two old files kept."""
    path = directory / LOG_FILE
    handler = logging.handlers.RotatingFileHandler(path, "a", FILE_BYTES, FILE_BACKUPS, encoding="utf-8")
    with _attached(handler, _formatter(style, colours=False)):
        yield path


@contextmanager
def _attached(handler: logging.Handler, formatter: logging.Formatter) -> Iterator[None]:
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def _formatter(style: str, colours: bool) -> logging.Formatter:
    return _Json() if style == "json" else _Text(colours)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "fields", {})


class _Text(logging.Formatter):
    """`2030-01-31 12:00:00.123 INFO    network  peer connected  peer=12D3Koo...`"""

    def __init__(self, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).isoformat(" ", "milliseconds")
        level = self._paint(f"{record.levelname:<7}", _COLOURS.get(record.levelname, "0"))
        parts = [time, level, f"{record.name.removeprefix(_PREFIX):<8}", _printable(record.getMessage())]
        line = " ".join(parts)
        for key, value in _fields(record).items():
            line += " " + self._paint(f"{key}=", "2") + _value(value)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text


class _Json(logging.Formatter):
    """One object a line: time (UTC), level, logger, event, then the fields (a reserved name gets a "_" behind it)."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name.removeprefix(_PREFIX),
            "event": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        line.update({key + "_" * (key in _RESERVED): value for key, value in _fields(record).items()})
        return json.dumps(line, default=str, ensure_ascii=False)


def _printable(text: str) -> str:
    """Text from a stranger must not move the cursor or forge a line."""
    return text if text.isprintable() else repr(text)[1:-1]


def _value(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    quoted = not text or not text.isprintable() or any(mark in text for mark in ' "=')
    return json.dumps(text) if quoted else text
