"""What `top` shows, as lines of text; pure, so that it can be looked at without a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from learnae.cli import tables
from learnae.cli.columns import Peer, fitting, ordered
from learnae.cli.top.feed import Look
from learnae.cli.top.trail import Trail
from learnae.cli.words import clean, duration, number, percent, plural, size

MOST_PEERS = 500
"""Rows of the table; who has more peers sees those that come first in the order chosen."""
_LABEL = 10
_LEVELS = {"warning": "yellow", "error": "red"}


def head(look: Look) -> Text:
    """Profile, state, topic, task, age."""
    status = look.status
    text = Text.assemble((clean(status.get("profile") or "learnae", 40), "bold"), "  ")
    text.append_text(tables.styled_state(status.get("state") or "-")).append("  ")
    if len(look.running) > 1:
        text.append(f"(1 of {len(look.running)} daemons)  ", "dim")
    if status:
        text.append(f"topic {clean(status.get('topic'), 64)}, task {clean(status.get('task'), 64)}, ")
        text.append(f"up {duration(status.get('uptime') or 0)}, {status.get('members') or 0} members")
    return text


def reasons(look: Look, now: float) -> Text:
    """Why it does not train, or is not there; empty where all is well."""
    lines = [look.trouble] if look.trouble else tables.paused(look.status, now)
    return Text("\n".join(clean(line) for line in lines[:3]), "red" if look.trouble else "yellow")


def accuracy(status: Mapping[str, Any]) -> str:
    """Beside its chart."""
    trainer = status.get("trainer") or {}
    averaged = trainer.get("accuracy_averaged")
    return percent(trainer.get("accuracy")) + (f"  averaged {percent(averaged)}" if averaged is not None else "")


def loss(status: Mapping[str, Any]) -> str:
    """Beside its chart."""
    return number((status.get("trainer") or {}).get("loss"))


def traffic(trail: Trail) -> str:
    """Beside its chart."""
    if trail.sent is None:
        return "-"
    return f"{size(trail.sent)}/s up  {size(trail.received)}/s down"


def figures(status: Mapping[str, Any]) -> list[Text]:
    """A line for each thing that there is to say."""
    trainer, ledger, network, snapshots = (
        status.get(part) or {} for part in ("trainer", "ledger", "network", "snapshots")
    )
    training = f"round {trainer.get('rounds', 0)}, {number(trainer.get('steps_per_second'))} steps/s"
    if status.get("share") is not None:
        training += f", {percent(status['share'])} of the swarm's work"
    if trainer.get("restarts"):
        training += f", {trainer['restarts']} restarts"
    authors = plural(ledger.get("authors", 0), "node")
    updates = f"{ledger.get('updates', 0)} by {authors}, {ledger.get('missing') or 'none'} missing"
    if ledger.get("clipped"):
        updates += f", {ledger['clipped']} in part"
    kept = f"{snapshots.get('held', 0)} kept, {size(snapshots.get('bytes'))} of {size(snapshots.get('cap'))}"
    lines = [("training", training), ("updates", updates), ("refused", counted(status.get("refused")))]
    if any((network.get("dropped") or {}).values()):
        lines.append(("dropped", counted(network["dropped"])))
    told = tables.history(status)
    lines += [line for line in told if line[0] not in ("snapshot", "lineage")]
    lines.append(("snapshots", next((text for label, text in told if label == "snapshot"), kept)))
    total = f"{size(network.get('bytes_sent'))} sent, {size(network.get('bytes_received'))} received"
    lines.append(("network", f"{network.get('peers', 0)} connected, {total}"))
    return [Text.assemble((f"{label:<{_LABEL}}", "dim"), text) for label, text in lines]


def counted(counts: Mapping[str, int] | None) -> str:
    """12: 7 late, 5 duplicate; the most frequent first."""
    found = sorted(((count, reason) for reason, count in (counts or {}).items() if count), reverse=True)
    shown = ", ".join(f"{count} {clean(reason, 30)}" for count, reason in found)
    return f"{sum(count for count, _ in found)}: {shown}" if found else "none"


def peers(
    rows: Sequence[Peer], width: int, heading: str, backwards: bool
) -> tuple[list[tuple[str, Text, int]], list[tuple[str, list[Text]]]]:
    """The table: (name, heading, width) of columns, with a mark on that by which it is sorted, and (peer id, cells)."""
    shown = ordered(rows, heading, backwards)[:MOST_PEERS]
    columns, lines = fitting(shown, width), []
    mark = " ▼" if backwards else " ▲"
    for peer in shown:
        cells = []
        for column in columns:
            text = column.cell(peer)
            styled = tables.styled_state(text) if column.heading in ("role", "state") else Text(text)
            styled.justify = "right" if column.right else "left"
            cells.append(styled)
        lines.append((str(peer.get("peer")), cells))
    headings = []
    for column in columns:
        title = column.heading + mark * (column.heading == heading)
        label = Text(title, justify="right" if column.right else "left")
        headings.append((column.heading, label, max(len(title), column.width(shown))))
    return headings, lines


def messages(status: Mapping[str, Any], most: int) -> Text:
    """The newest messages, at most so many lines, the newest last."""
    lines = [
        Text.assemble((f"{at} ", "dim"), (f"{level:<8}", _LEVELS.get(level, "dim")), text)
        for at, level, text in tables.messages(status)[-most:]
    ]
    return Text("\n").join(lines)
