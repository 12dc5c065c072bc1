"""What a check says: one line, and one action where something is to be done; made by `checks`, shown by `printing`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It works, but not as well as it could."""
    FAIL = "fail"
    """Something does not work until somebody acts."""
    SKIP = "skip"
    """Could not be looked at."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one check. `action` is what to do; "" if there is nothing to be done."""

    check: str
    level: Level
    text: str
    action: str = ""


def ok(check: str, text: str) -> Verdict:
    """All is well."""
    return Verdict(check, Level.OK, text)


def warn(check: str, text: str, action: str) -> Verdict:
    """It could be better."""
    return Verdict(check, Level.WARN, text, action)


def fail(check: str, text: str, action: str) -> Verdict:
    """It does not work."""
    return Verdict(check, Level.FAIL, text, action)


def skip(check: str, text: str) -> Verdict:
    """It could not be looked at."""
    return Verdict(check, Level.SKIP, text)
