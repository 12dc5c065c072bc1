"""What the list of peers shows: its columns, which of them fit, and how it is sorted; used by `tables` and `top`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.cells import cell_len

from learnae.cli.words import clean, duration, short, size

Peer = Mapping[str, Any]

_GAP = 2
"""Blanks between two columns."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `importance`: the least important one goes first where the screen is narrow.

    `cell` gives its text, "-" for what is not known; `key` what it is sorted by, None for what is not known.
    `least` is the width to which it may be squeezed; 0: not at all.
    """

    heading: str
    cell: Callable[[Peer], str]
    key: Callable[[Peer], Any]
    importance: int
    right: bool = False
    least: int = 0

    def width(self, peers: Sequence[Peer]) -> int:
        """Cells that it needs."""
        whole = max(cell_len(text) for text in (self.heading, *(self.cell(peer) for peer in peers)))
        return min(whole, max(self.least, cell_len(self.heading))) if self.least else whole


def role(peer: Peer) -> str:
    """What it does, as far as is known, and whether it is connected."""
    known = clean(peer.get("role") or peer.get("state") or "-", 24)
    return known if peer.get("connected") else f"{known}, not connected"


def cut(named: Any) -> str:
    """A cut for people: 897686812 (4m7hqzfu)."""
    return f"{clean(named.get('index'), 24)} ({short(named.get('cid'))})" if isinstance(named, Mapping) else "none"


def problem(peer: Peer) -> str:
    """What keeps it from merging with this node, or nothing."""
    if peer.get("forked"):
        return "signed two updates for one slot; one of them counts"
    return clean(peer.get("problem") or ("" if peer.get("swarm_match") else "another swarm"))


def _number(name: str) -> Callable[[Peer], float | None]:
    def key(peer: Peer) -> float | None:
        value = peer.get(name)
        return value if isinstance(value, (int, float)) else None

    return key


def _shown(name: str, words: Callable[[float], str]) -> Callable[[Peer], str]:
    number = _number(name)

    def cell(peer: Peer) -> str:
        value = number(peer)
        return "-" if value is None else words(value)

    return cell


def _addresses(peer: Peer) -> str:
    found = [clean(str(address).partition("/p2p/")[0], 80) for address in peer.get("addresses") or ()]
    return ", ".join(found[:4]) or "-"


def _slots(count: float) -> str:
    return f"{count:.0f} slot{'s' * (count != 1)}"


def _named(name: str) -> Callable[[Peer], str]:
    return lambda peer: clean(peer.get(name) or "-", 24)


def _dialled(peer: Peer) -> str:
    """Who dialled whom."""
    direction = peer.get("direction")
    return {"inbound": "by it", "outbound": "by us"}.get(str(direction), _named("direction")(peer))


def _settled(peer: Peer) -> float | None:
    named = peer.get("settled")
    return _number("index")(named) if isinstance(named, Mapping) else None


COLUMNS: Final = (
    Column("peer", lambda peer: short(peer.get("peer")), lambda peer: str(peer.get("peer")), 99),
    Column("role", role, role, 90),
    Column("state", _named("state"), _named("state"), 10),
    Column("rate", _shown("samples_per_second", lambda rate: f"{rate:.0f}/s"), _number("samples_per_second"), 75, True),
    Column("stale", _shown("staleness", _slots), _number("staleness"), 70, True),
    Column("updates", _shown("updates", lambda count: f"{count:.0f}"), _number("updates"), 85, True),
    Column("sent", _shown("bytes_sent", size), _number("bytes_sent"), 40, True),
    Column("received", _shown("bytes_received", size), _number("bytes_received"), 40, True),
    Column("dialled", _dialled, _dialled, 20),
    Column("settled", lambda peer: cut(peer.get("settled")), _settled, 50),
    Column("seen", _shown("last_seen", lambda past: f"{duration(past)} ago"), _number("last_seen"), 80, True),
    Column("address", _addresses, _addresses, 60, least=24),
    Column("problem", problem, problem, 95, least=20),
)
"""All of them, from left to right."""

_NEED: Final = {
    "state": "role",
    "rate": "samples_per_second",
    "stale": "staleness",
    "sent": "bytes_sent",
    "received": "bytes_received",
    "dialled": "direction",
}
"""A column is there only if a peer has this field: daemons of older versions lack some."""


def fitting(peers: Sequence[Peer], width: int) -> list[Column]:
    """The columns that say something of these peers and fit into `width` cells, from left to right."""
    columns = [column for column in COLUMNS if _says_something(column, peers)]
    while len(columns) > 1 and sum(column.width(peers) + _GAP for column in columns) - _GAP > width:
        columns.remove(min(columns, key=lambda column: column.importance))
    return columns


def ordered(peers: Sequence[Peer], heading: str, backwards: bool = False) -> list[Peer]:
    """The peers by one column; those of whom it is not known come last either way, equal ones by their id."""
    key = next(column.key for column in COLUMNS if column.heading == heading)
    by_id = sorted(peers, key=lambda peer: str(peer.get("peer")))
    known = [peer for peer in by_id if key(peer) is not None]
    return sorted(known, key=key, reverse=backwards) + [peer for peer in by_id if key(peer) is None]


def _says_something(column: Column, peers: Sequence[Peer]) -> bool:
    if column.heading == "problem":
        return any(problem(peer) for peer in peers)
    field = _NEED.get(column.heading)
    return field is None or any(peer.get(field) is not None for peer in peers)
