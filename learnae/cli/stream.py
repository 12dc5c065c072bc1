"""Events of a daemon: the `text/event-stream` of its API taken apart, and each in words; used by `events` and `top`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from learnae.cli.words import clean, duration, number, percent, short, size

KINDS: Final = ("state", "message", "peer", "round", "report", "cut", "settled", "download", "paused", "limits")
LONGEST: Final = 256 * 1024
"""Characters of one event; what is longer is no daemon's, and dropped."""
HEARTBEAT: Final = 15.0
"""Seconds between two lines of a stream on which nothing happens."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a daemon. `time`: seconds since 1970, 0 if it was not said."""

    id: int
    kind: str
    time: float
    data: Mapping[str, Any]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Event:
        """The event that a row of the JSON list is, its data beside or below the rest.

        Raises:
            ValueError: it is none.
        """
        try:
            number, kind, time = int(row["id"]), str(row["kind"]), float(row.get("time") or 0)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no event: {clean(row, 80)}") from error
        inner = row.get("data")
        data = (
            inner if isinstance(inner, Mapping) else {k: v for k, v in row.items() if k not in ("id", "kind", "time")}
        )
        return cls(number, kind, time, data)

    def as_json(self) -> str:
        """One line: {"id", "time", "kind", "data"}."""
        return json.dumps({"id": self.id, "time": self.time, "kind": self.kind, "data": dict(self.data)})


class Parser:
    """Takes a stream apart, line by line. See https://html.spec.whatwg.org/multipage/server-sent-events.html."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}
        self._length = 0

    def feed(self, line: str) -> Event | None:
        """The event that this line, without its end, completes. What makes no sense is passed over."""
        if not line:
            fields, self._fields, length, self._length = self._fields, {}, self._length, 0
            return _event(fields) if length <= LONGEST else None
        name, _, value = line.partition(":")
        self._length += len(line)
        if name and self._length <= LONGEST:
            value = value.removeprefix(" ")
            more = name == "data" and name in self._fields
            self._fields[name] = f"{self._fields[name]}\n{value}" if more else value
        return None


def _event(fields: Mapping[str, str]) -> Event | None:
    try:
        data = json.loads(fields["data"])
        row = {"id": fields.get("id", ""), "kind": fields.get("event", "message"), "time": data.pop("time", 0)}
        return Event.of(row | {"data": data.get("data", data)})
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def in_words(event: Event) -> str:
    """What happened, as one line for people: of any kind, and safe to print."""
    data = event.data
    if event.kind == "message":
        level = clean(data.get("level") or "info", 10)
        return f"{level}: {clean(data.get('text'))}"
    return clean("  ".join(f"{clean(key, 40)}={_value(key, value)}" for key, value in data.items()), 600)


def wall_time(unix: float) -> str:
    """A moment by the clock on the wall; blanks where it is not known."""
    return f"{datetime.fromtimestamp(unix):%Y-%m-%d %H:%M:%S}" if 0 < unix < 2**33 else " " * 19


def _value(key: str, value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return _figure(key, value)
        case str():
            return short(value) if value.startswith(("12D3", "baf")) else clean(value, 120)
        case Mapping() if set(value) == {"index", "cid"}:
            return f"{clean(value['index'], 24)} ({short(str(value['cid']))})"
        case _:
            return clean(json.dumps(value), 120)


def _figure(key: str, value: float) -> str:
    if key.startswith("accuracy"):
        return percent(value).replace(" ", "")
    if key in ("bytes", "size", "done") or key.startswith("bytes_"):
        return size(value).replace(" ", "")
    if key in ("until", "time"):
        return wall_time(value)
    if key.endswith("seconds") or key in ("seconds_left", "last_seen"):
        return duration(value).replace(" ", "")
    return str(value) if isinstance(value, int) else number(value)
