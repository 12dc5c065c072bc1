"""Figures, times and strangers' text in words for people; used by all that the commands print."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from datetime import datetime

MOST = 400
"""Characters of one text from a daemon or a peer that are shown."""
_MARKS = 2
"""Accents that may stand on one letter."""


def size(count: float | None) -> str:
    """Bytes for people: 999 B, 1.2 kB, 34.5 MB."""
    if count is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def percent(ratio: float | None) -> str:
    """0.9612 as 96.1 %; None as a dash."""
    return "-" if ratio is None else f"{100 * ratio:.1f} %"


def number(value: float | None) -> str:
    """A loss or the like with four significant digits; None as a dash."""
    return "-" if value is None else f"{value:.4g}"


def plural(count: int, thing: str) -> str:
    """1 node, 2 nodes."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def short(identity: str | None) -> str:
    """The end of a peer id or a CID, or the start of a digest: enough to tell them apart."""
    if not identity:
        return "-"
    return clean(identity[-8:] if identity.startswith(("12D3", "baf")) else identity[:8])


def duration(seconds: float) -> str:
    """Seconds for people: 59 s, 3 min, 2.5 h, 4.0 d."""
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}" if length < 3600 else f"{seconds / length:.1f} {unit}"
    return f"{seconds / 86400:.1f} d"


def moment(unix: float, now: float) -> str:
    """A time to come, by the clock on the wall: 14:32, or 2030-01-31 14:32 if it is another day."""
    at, today = (datetime.fromtimestamp(time).astimezone() for time in (unix, now))
    return f"{at:%H:%M}" if at.date() == today.date() else f"{at:%Y-%m-%d %H:%M}"


def clean(text: object, most: int = MOST) -> str:
    """Text of a stranger as one line that cannot move the cursor, change colours, forge a line or fill the screen.

    Control and format characters (those that reorder a line among them), right-to-left letters and accents beyond
    two on a letter become escapes, \\x1b for instance; what is longer than `most` characters is cut off.
    """
    # Cut first: a megabyte of it costs nothing.
    string = unicodedata.normalize("NFC", str(text)[: most + 1])
    shown = "".join(_escaped(string))
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _escaped(text: str) -> Iterator[str]:
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        plain = char.isprintable() and marks <= _MARKS and unicodedata.bidirectional(char) not in ("R", "AL", "AN")
        yield char if plain else char.encode("unicode_escape").decode()
