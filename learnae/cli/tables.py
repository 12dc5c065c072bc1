"""Shows a daemon's status, peers and cuts to people, with rich; used by the commands, `top` and the demo."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from learnae.cli import dropped
from learnae.cli.columns import cut, fitting
from learnae.cli.daemons import Daemon
from learnae.cli.words import clean, duration, moment, number, percent, plural, short, size
from learnae.ledger.admission import Refusal

_STATE_STYLES = {
    "training": "green",
    "trains": "green",
    "alone": "yellow",
    "paused": "yellow",
    "settling": "cyan",
    "leaving": "dim",
    "stopping": "dim",
}

_LABEL_WIDTH = 8
_BAR = 20
_UNBROKEN = 100_000
"""Columns of what is no terminal: nothing is wrapped or left out for programs that read it."""


def screen(stderr: bool = False) -> Console:
    """Where to print: as wide as the terminal, or never wrapped where there is none and COLUMNS is not set."""
    stream = sys.stderr if stderr else sys.stdout
    wide = None if stream.isatty() or os.environ.get("COLUMNS", "").isdecimal() else _UNBROKEN
    return Console(stderr=stderr, highlight=False, emoji=False, markup=False, width=wide)


def styled_state(state: object) -> Text:
    """The state in its colour. Text from a daemon never goes through rich's markup."""
    return Text(clean(state, 40), style=_STATE_STYLES.get(str(state).partition(",")[0], ""))


def show_status(status: Mapping[str, Any], console: Console | None = None) -> None:
    """Print one daemon's status."""
    console = console or screen()
    trainer, ledger, network = (status.get(key) or {} for key in ("trainer", "ledger", "network"))
    head = Text.assemble((clean(status.get("profile"), 80), "bold"), "  ", styled_state(status.get("state")))
    topic, task = (clean(status.get(key), 80) for key in ("topic", "task"))
    head.append(f"  topic {topic}, task {task}, up {duration(status.get('uptime') or 0)}")
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", min_width=_LABEL_WIDTH)
    rows.add_column(overflow="fold")
    training = (
        f"round {trainer.get('rounds', 0)}, loss {number(trainer.get('loss'))}, "
        f"accuracy {percent(trainer.get('accuracy'))} (averaged {percent(trainer.get('accuracy_averaged'))}), "
        f"{number(trainer.get('steps_per_second'))} steps/s"
    )
    updates = (
        f"{plural(ledger.get('updates', 0), 'update')} by {plural(ledger.get('authors', 0), 'node')}, "
        f"{ledger.get('missing') or 'none'} missing, weights {short(trainer.get('digest'))}"
    )
    if ledger.get("clipped"):
        updates += f", {ledger['clipped']} of them count in part"
    lines = [("paused", why) for why in paused(status, time.time())]
    lines += [("peers", f"{network.get('peers', 0)} connected"), ("training", training), ("ledger", updates)]
    lines += history(status)
    lines.append(("traffic", f"{size(network.get('bytes_sent'))} sent, {size(network.get('bytes_received'))} received"))
    if trainer.get("restarts"):
        lines.append(("restarts", f"{trainer['restarts']}, last for: {clean(trainer.get('last_error'))}"))
    lines += counts("refused", status.get("refused"), {reason.value: reason.meaning for reason in Refusal})
    lines += counts("dropped", network.get("dropped"), dropped.MEANINGS)
    lines += [(level, f"{at} {text}" if at else text) for at, level, text in messages(status)[-3:]]
    for label, text in lines:
        rows.add_row(label, Text(text))
    console.print(head)
    # Outside the table, and never wrapped: people copy these.
    for label, text in [("peer", status.get("peer")), *(("listens", at) for at in status.get("listen") or ())]:
        console.print(Text.assemble((f"{label:{_LABEL_WIDTH + 2}}", "dim"), clean(text)), soft_wrap=True)
    console.print(rows)


def paused(status: Mapping[str, Any], now: float) -> list[str]:
    """Why it does not train, and until when: a line for each reason; none where it may train."""
    reasons = (status.get("paused") or {}).get("reasons") or ()
    lines = []
    for reason in reasons:
        line = clean(reason.get("text") or reason.get("reason"))
        if isinstance(until := reason.get("until"), (int, float)):
            line += f", until {moment(until, now)} ({duration(max(until - now, 0))} left)"
        lines.append(line)
    return lines


def history(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Cuts, what is being fetched to go over to those of others, and a clock that is wrong."""
    cuts, ledger = status.get("cuts") or {}, status.get("ledger") or {}
    lines = []
    if newest := cuts.get("newest"):
        settled, votes = cuts.get("settled"), f"attested by {cuts.get('votes')} of {cuts.get('electorate')}"
        text = f"settled up to {cut(settled)}, " if settled else "none settled yet, "
        text += votes if newest == settled else f"newest {cut(newest)} {votes}"
        lines.append(("cuts", text + (f"; pruned up to {ledger['floor']}" if ledger.get("floor") is not None else "")))
    if cuts.get("adopting"):
        lines.append(("adopting", clean(cuts["adopting"])))
    snapshots = status.get("snapshots") or {}
    lines += [("snapshot", progress(snapshots[what])) for what in ("fetching", "importing") if snapshots.get(what)]
    if cuts.get("adopted"):
        times = "once" if cuts["adopted"] == 1 else f"{cuts['adopted']} times"
        lines.append(("lineage", f"has gone over to the weights of others {times}"))
    if offset := status.get("clock_offset"):
        lines.append(
            ("clock", f"{abs(offset):.1f} s {'behind' if offset > 0 else 'ahead of'} the swarm's: set it right")
        )
    return lines


def progress(fetching: Mapping[str, Any]) -> str:
    """A download or an import, as a bar and in figures."""
    done, whole = fetching.get("done") or 0, fetching.get("size") or 0
    filled = min(int(_BAR * done / whole), _BAR) if whole else 0
    text = f"{'█' * filled}{'░' * (_BAR - filled)} {size(done)} of {size(whole or None)}"
    if fetching.get("speed"):
        text += f" at {size(fetching['speed'])}/s"
    if fetching.get("seconds_left") is not None:
        text += f", {duration(fetching['seconds_left'])} left"
    holders = fetching.get("holders")
    return f"{text}, from {holders} peers" if holders else text


def messages(status: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What the user was told lately, the newest last: (by the clock on the wall, level, text)."""
    found = status.get("messages") or ()
    return [
        (_clock_time(message.get("time")), clean(message.get("level"), 10), clean(message.get("text")))
        for message in found
    ]


def _clock_time(iso: object) -> str:
    try:
        return f"{datetime.fromisoformat(str(iso)).astimezone():%H:%M:%S}"
    except ValueError:
        return ""


def counts(label: str, counted: Mapping[str, int] | None, meanings: Mapping[str, str]) -> list[tuple[str, str]]:
    """A line for each count that is not zero: "12 duplicate: the update is already in the ledger"."""
    return [
        (label, f"{count} {clean(reason, 40)}" + (f": {meanings[reason]}" if reason in meanings else ""))
        for reason, count in sorted((counted or {}).items())
        if count
    ]


def show_peers(daemon: Daemon, peers: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print the peers that one daemon knows; where the screen is narrow, the columns that matter most."""
    console = console or screen()
    topic = clean(daemon.topic, 80)
    if not peers:
        console.print(Text(f"{daemon.profile}: no peer known yet on topic {topic}; it keeps looking"))
        return
    table = Table(title=Text(f"{daemon.profile}, topic {topic}"), title_justify="left", box=None, pad_edge=False)
    columns = fitting(peers, console.width)
    for column in columns:
        table.add_column(
            column.heading,
            overflow="fold",
            no_wrap=not column.least,
            justify="right" if column.right else "left",
        )
    for peer in peers:
        cells = [(column.heading, column.cell(peer)) for column in columns]
        table.add_row(*(styled_state(text) if heading in ("role", "state") else Text(text) for heading, text in cells))
    console.print(table)


def show_snapshots(daemon: Daemon, snapshots: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print the cuts that a daemon keeps, the newest last."""
    console = console or screen()
    topic = clean(daemon.topic, 80)
    if not snapshots:
        console.print(Text(f"{daemon.profile}: no cut is settled yet"))
        return
    table = Table(title=Text(f"{daemon.profile}: cuts of {topic}"), title_justify="left")
    for name in ("interval", "updates", "loss", "size", "attested", "kept"):
        table.add_column(name, justify="left" if name == "kept" else "right")
    for row in snapshots:
        why = [what for what, holds in (("pinned", row["pinned"]), ("milestone", row["milestone"])) if holds]
        table.add_row(
            "?" if row["index"] is None else str(row["index"]),
            "?" if row["updates"] is None else str(row["updates"]),
            number(row["loss"]),
            size(row["size"]),
            f"{row['attested_by']} peer{'s' * (row['attested_by'] != 1)}",
            ", ".join(why) or "for now",
        )
    console.print(table)
    # Outside the table, and never wrapped: people copy these.
    for row in snapshots:
        console.print(Text(f"{'?' if row['index'] is None else row['index']}  {clean(row['cid'])}"), soft_wrap=True)
