"""Shows verdicts: a line each, and below it what to do; or JSON. Used by `learnae doctor` and `learnae task check`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from learnae.cli.doctor.verdict import Level, Verdict

_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red", Level.SKIP: "dim"}
_WIDTH = 11
"""Characters of the longest check's name, about."""


def show(profile: Path, verdicts: Iterable[Verdict], console: Console | None = None) -> None:
    """Those of one profile."""
    console = console or Console(highlight=False)
    console.print(Text(f"profile {profile.name} in {profile.parent}", "bold"), soft_wrap=True)
    for verdict in verdicts:
        show_one(verdict, console)


def show_one(verdict: Verdict, console: Console | None = None) -> None:
    """One verdict a line, its action below it. Long lines are folded under their beginning."""
    console = console or Console(highlight=False)
    margin = " " * (5 + 1 + _WIDTH + 1)
    lines = _fold(verdict.text, console.width - len(margin))
    head = Text(f"{verdict.level:<5} ", _STYLES[verdict.level])
    console.print(head + Text(f"{verdict.check:<{_WIDTH}} {lines[0]}", ""), soft_wrap=True)
    for line in lines[1:]:
        console.print(Text(margin + line), soft_wrap=True)
    for number, line in enumerate(_fold(verdict.action, console.width - len(margin) - 3)):
        console.print(Text(f"{margin}{'-> ' if not number else '   '}{line}", "cyan"), soft_wrap=True)


def _fold(text: str, width: int) -> list[str]:
    """Addresses and paths stay in one piece, to be copied."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    lines = textwrap.wrap(plain, max(width, 40), break_long_words=False, break_on_hyphens=False)
    return lines or ([""] if text else [])


def as_json(about: Mapping[str, str], verdicts: Iterable[Verdict]) -> str:
    """What it is about, "ok", and "verdicts": [{"check", "level", "text", "action"}]; on one line."""
    rows = [{"check": v.check, "level": v.level.value, "text": v.text, "action": v.action or None} for v in verdicts]
    sound = all(row["level"] != Level.FAIL for row in rows)
    return json.dumps({**about, "ok": sound, "verdicts": rows})
