"""What a node may take of its PC, and when: the table `[limits]`, checked; used by config, daemon and CLI."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from learnae.errors import ConfigError
from learnae.hours import EXAMPLE, Hours

LEAST_RATE: Final = 50_000
"""Bytes per second. With less, peers take a node for one that has hung: they wait five seconds for 32 KiB."""
LEAST_RAM: Final = 256 * 2**20
LEAST_DISK: Final = 10**8
_NONE: Final = ("", "off", "none", "any")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the user lets a node use. None is no limit, where it is allowed.

    Attributes:
        hours: trains in these hours of the week only, in local time. Fewer hours: less work, and less said for it.
        idle_after: trains once nobody has used the PC for so many seconds.
        on_battery: trains on battery too, "run", or waits for the mains, "pause".
        cpu: part of the PC's cores (0 to 1) that daemon and trainer together use at most.
        threads: threads of one training step; None: as started. Fewer leave cores free and make steps slower.
        nice: how much the trainer gives way to other programs, 0 to 19.
        gpu: the task may use a GPU. A change starts the trainer process anew.
        ram: bytes of memory of daemon and trainer together. Less than the model needs, and nothing is trained.
        disk: bytes of all the node's files: snapshots, database, logs, the trainer's state.
        upload: bytes per second to all peers together.
        download: bytes per second from all peers together.
    """

    hours: Hours | None = None
    idle_after: float | None = None
    on_battery: str = "pause"
    cpu: float | None = None
    threads: int | None = None
    nice: int = 10
    gpu: bool = True
    ram: int | None = None
    disk: int | None = None
    upload: int | None = None
    download: int | None = None

    def changed(self, changes: Mapping[str, tuple[str, object]]) -> Limits:
        """These limits with some replaced; a value is (where it came from, for messages; what was typed).

        Raises:
            ConfigError: there is no such limit, or the value is not valid; nothing is changed.
        """
        values: dict[str, Any] = {}
        for name, (source, value) in changes.items():
            known(name, source)
            values[name] = parse(name, value, source)
        return replace(self, **values)

    def texts(self) -> dict[str, Any]:
        """Each limit as `parse` takes it, ready for JSON and TOML; None where there is none."""
        return {field.name: _shown(field.name, getattr(self, field.name)) for field in fields(self)}


NAMES: Final = tuple(field.name for field in fields(Limits))
_DEFAULTS: Final = {field.name: field.default for field in fields(Limits)}


def known(name: str, source: str) -> str:
    """The name itself, if there is such a limit.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    if name in NAMES:
        return name
    near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0)[0]
    raise ConfigError(
        f"{source} sets {name[:40]!r}, which is not a limit. Did you mean {near!r}? Limits are: {', '.join(NAMES)}.",
        code="unknown-limit",
    )


def parse(name: str, value: object, source: str) -> Any:
    """The value of a limit in its own type; None and "off" are its default, which is no limit where that is possible.

    Raises:
        ConfigError: it is not valid; the message begins with `source`, where it came from.
    """
    if name in ("on_battery", "gpu") and value is not None:
        pass  # "off" means something else there.
    elif value is None or (isinstance(value, str) and value.strip().lower() in _NONE):
        return _DEFAULTS[name]
    try:
        return _PARSERS[name](value)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{source} is {str(value)[:200]!r}, but {error}", code="bad-limit") from error


def assignments(items: tuple[str, ...] | list[str], source: str = "--limit") -> dict[str, tuple[str, object]]:
    """What `KEY=VALUE` pairs say, for `Limits.changed`.

    Raises:
        ConfigError: a pair has no `=`, or there is no such limit.
    """
    found: dict[str, tuple[str, object]] = {}
    for item in items:
        name, equals, value = item.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise ConfigError(
                f"{source} is {item[:200]!r}, but must be KEY=VALUE. Say {source} cpu=50%, for instance.",
                code="bad-limit",
            )
        found[known(name, source)] = (f"{source} {name}", value.strip())
    return found


# --- one parser for each kind of value


def _hours(value: object) -> Hours:
    if not isinstance(value, str):
        raise ValueError(f"must be hours of the week. Write them as in {EXAMPLE!r}.")
    return Hours.parse(value)


def _seconds(value: object) -> float:
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)\s*([smhd]?)", str(value).strip().lower())
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else 0.0
    if not 1.0 <= seconds <= 7 * 86400:
        raise ValueError("must be a time from 1 s to 7 d. Say 10m, for instance, or off.")
    return round(seconds, 3)


def _part(value: object) -> float:
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)\s*%?", str(value).strip())
    percent = float(match[1]) if match and not isinstance(value, bool) else 0.0
    if not 1.0 <= percent <= 100.0:
        raise ValueError("must be a part of the PC's cores from 1% to 100%. Say 50%, for instance, or off.")
    return round(percent / 100.0, 4)


def _whole(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        text = str(value).strip()
        if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}. Say off for the default.")
        return int(text)

    return parse


def _switch(value: object) -> bool:
    text = str(value).strip().lower()
    if text not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        raise ValueError("must be on or off. Say one of them.")
    return text in ("1", "true", "yes", "on")


def _battery(value: object) -> str:
    text = str(value).strip().lower()
    if text not in ("pause", "run"):
        raise ValueError("must be pause or run: what to do while the PC runs on its battery. Say one of them.")
    return text


def _bytes(value: object) -> int | None:
    match = re.fullmatch(r"(\d{1,19})\s*(?:([kMGT])(i?))?B?", str(value).strip())
    if match is None or isinstance(value, bool):
        return None
    unit = 1024 if match[3] else 1000
    return int(match[1]) * int(unit ** " kMGT".index(match[2] or " "))


def _size(least: int, example: str) -> Callable[[object], int]:
    def parse(value: object) -> int:
        size = _bytes(value)
        if size is None or not least <= size <= 2**60:
            raise ValueError(f"must be a size from {_size_text(least)} on. Say {example}, for instance, or off.")
        return size

    return parse


def _rate(value: object) -> int:
    text = str(value).strip()
    bits = re.fullmatch(r"(\d{1,9})\s*([kMG])bit(?:/s)?", text)
    if bits:
        rate: int | None = int(bits[1]) * 1000 ** " kMG".index(bits[2]) // 8
    else:
        rate = _bytes(value if isinstance(value, bool) else text.removesuffix("/s"))
    if rate is None or not LEAST_RATE <= rate <= 2**50:
        raise ValueError(
            f"must be bytes per second from {_size_text(LEAST_RATE)}/s on. Say 1MB/s or 8Mbit/s, for instance, or off."
        )
    return rate


_PARSERS: dict[str, Callable[[object], Any]] = {
    "hours": _hours,
    "idle_after": _seconds,
    "on_battery": _battery,
    "cpu": _part,
    "threads": _whole(1, 1024),
    "nice": _whole(0, 19),
    "gpu": _switch,
    "ram": _size(LEAST_RAM, "4GiB"),
    "disk": _size(LEAST_DISK, "20GB"),
    "upload": _rate,
    "download": _rate,
}


# --- and back


def _size_text(size: int) -> str:
    """Exactly that many bytes, in the largest unit that divides them."""
    units = [
        (base**power, f"{'kMGT'[power - 1]}{mark}B")
        for base, mark in ((1000, ""), (1024, "i"))
        for power in range(1, 5)
    ]
    return min((f"{size // unit}{name}" for unit, name in units if size % unit == 0), key=len, default=f"{size}B")


def _shown(name: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    match name:
        case "hours":
            return str(value)
        case "idle_after":
            for unit, seconds in (("d", 86400), ("h", 3600), ("m", 60)):
                if value % seconds == 0:
                    return f"{value / seconds:.0f}{unit}"
            return f"{value:.10g}s"
        case "cpu":
            return f"{100 * value:.6g}%"
        case "ram" | "disk":
            return _size_text(value)
        case "upload" | "download":
            return f"{_size_text(value)}/s"
    return value
