"""Shows a daemon's status and peers to people, with rich; used by the CLI's commands and by the demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from learnae.cli import dropped
from learnae.cli.daemons import Daemon
from learnae.ledger.admission import Refusal

_STATE_STYLES = {
    "training": "green",
    "alone": "yellow",
    "paused": "yellow",
    "settling": "cyan",
    "leaving": "dim",
    "stopping": "dim",
}

_LABEL_WIDTH = 8
_BAR = 20


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


def short(identity: str | None) -> str:
    """The end of a peer id or a CID, or the start of a digest: enough to tell them apart."""
    if not identity:
        return "-"
    return identity[-8:] if identity.startswith(("12D3", "baf")) else identity[:8]


def duration(seconds: float) -> str:
    """Seconds for people: 59 s, 3 min, 2.5 h, 4.0 d."""
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}" if size < 3600 else f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86400:.1f} d"


def styled_state(state: object) -> Text:
    """The state in its colour. Text from a daemon never goes through rich's markup."""
    return Text(str(state), style=_STATE_STYLES.get(str(state), ""))


def show_status(status: Mapping[str, Any], console: Console | None = None) -> None:
    """Print one daemon's status."""
    console = console or Console()
    trainer, ledger, network = (status.get(key) or {} for key in ("trainer", "ledger", "network"))
    head = Text.assemble((str(status.get("profile")), "bold"), "  ", styled_state(status.get("state")))
    head.append(f"  topic {status.get('topic')}, task {status.get('task')}, up {duration(status.get('uptime') or 0)}")
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", min_width=_LABEL_WIDTH)
    rows.add_column(overflow="fold")
    training = (
        f"round {trainer.get('rounds', 0)}, loss {number(trainer.get('loss'))}, "
        f"accuracy {percent(trainer.get('accuracy'))} (averaged {percent(trainer.get('accuracy_averaged'))}), "
        f"{number(trainer.get('steps_per_second'))} steps/s"
    )
    updates = (
        f"{ledger.get('updates', 0)} updates by {ledger.get('authors', 0)} nodes, "
        f"{ledger.get('missing') or 'none'} missing, weights {short(trainer.get('digest'))}"
    )
    if ledger.get("clipped"):
        updates += f", {ledger['clipped']} of them count in part"
    lines = [("peers", f"{network.get('peers', 0)} connected"), ("training", training), ("ledger", updates)]
    lines += _history(status)
    lines.append(("traffic", f"{size(network.get('bytes_sent'))} sent, {size(network.get('bytes_received'))} received"))
    if trainer.get("restarts"):
        lines.append(("restarts", f"{trainer['restarts']}, last for: {trainer.get('last_error')}"))
    lines += _counts("refused", status.get("refused"), {reason.value: reason.meaning for reason in Refusal})
    lines += _counts("dropped", network.get("dropped"), dropped.MEANINGS)
    for message in (status.get("messages") or ())[-3:]:
        lines.append((str(message.get("level")), f"{_clock_time(message.get('time'))}{message.get('text')}"))
    for label, text in lines:
        rows.add_row(label, Text(text))
    console.print(head)
    # Outside the table, and never wrapped: people copy these.
    for label, text in [("peer", str(status.get("peer"))), *(("listens", at) for at in status.get("listen") or ())]:
        console.print(Text.assemble((f"{label:{_LABEL_WIDTH + 2}}", "dim"), str(text)), soft_wrap=True)
    console.print(rows)


def _history(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Cuts, what is being fetched to go over to those of others, and a clock that is wrong."""
    cuts, ledger = status.get("cuts") or {}, status.get("ledger") or {}
    lines = []
    if newest := cuts.get("newest"):
        settled, votes = cuts.get("settled"), f"attested by {cuts.get('votes')} of {cuts.get('electorate')}"
        text = f"settled up to {cut(settled)}, " if settled else "none settled yet, "
        text += votes if newest == settled else f"newest {cut(newest)} {votes}"
        lines.append(("cuts", text + (f"; pruned up to {ledger['floor']}" if ledger.get("floor") is not None else "")))
    if cuts.get("adopting"):
        lines.append(("adopting", str(cuts["adopting"])))
    if fetching := (status.get("snapshots") or {}).get("fetching"):
        lines.append(("snapshot", progress(fetching)))
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
    filled = int(_BAR * done / whole) if whole else 0
    text = f"{'█' * filled}{'░' * (_BAR - filled)} {size(done)} of {size(whole or None)}"
    if fetching.get("speed"):
        text += f" at {size(fetching['speed'])}/s"
    if fetching.get("seconds_left") is not None:
        text += f", {duration(fetching['seconds_left'])} left"
    holders = fetching.get("holders")
    return f"{text}, from {holders} peers" if holders else text


def _clock_time(iso: object) -> str:
    """When a message came, by the clock on the wall, as its beginning."""
    try:
        return f"{datetime.fromisoformat(str(iso)).astimezone():%H:%M:%S} "
    except ValueError:
        return ""


def cut(named: Mapping[str, Any] | None) -> str:
    """A cut for people: 897686812 (4m7hqzfu)."""
    return "none" if named is None else f"{named.get('index')} ({short(named.get('cid'))})"


def _counts(label: str, counts: Mapping[str, int] | None, meanings: Mapping[str, str]) -> list[tuple[str, str]]:
    """A line for each count that is not zero: "12 duplicate: the update is already in the ledger"."""
    return [
        (label, f"{count} {reason}" + (f": {meanings[reason]}" if reason in meanings else ""))
        for reason, count in sorted((counts or {}).items())
        if count
    ]


def show_peers(daemon: Daemon, peers: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print the peers that one daemon knows."""
    console = console or Console()
    if not peers:
        console.print(Text(f"{daemon.profile}: no peer known yet on topic {daemon.topic}; it keeps looking"))
        return
    table = Table(title=Text(f"{daemon.profile}, topic {daemon.topic}"), title_justify="left", box=None)
    problems = any(_problem(peer) for peer in peers)
    for heading in ("peer", "state", "updates", "settled", "seen", "address", *(["problem"] if problems else ())):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("peer", "updates", "settled", "seen"))
    for peer in peers:
        seen = peer.get("last_seen")
        state = styled_state(peer.get("state") or "-")
        if not peer.get("connected"):
            state.append(", not connected")
        cells = [
            Text(short(peer.get("peer"))),
            state,
            Text(str(peer.get("updates", "-"))),
            Text(cut(peer.get("settled"))),
            Text("-" if seen is None else f"{duration(seen)} ago"),
            Text(", ".join(str(address).partition("/p2p/")[0] for address in peer.get("addresses") or ("-",))),
        ]
        table.add_row(*cells, *([Text(_problem(peer))] if problems else ()))
    console.print(table)


def show_snapshots(daemon: Daemon, snapshots: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print the cuts that a daemon keeps, the newest last."""
    console = console or Console()
    if not snapshots:
        console.print(f"{daemon.profile}: no cut is settled yet")
        return
    table = Table(title=f"{daemon.profile}: cuts of {daemon.topic}", title_justify="left")
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
        console.print(Text(f"{'?' if row['index'] is None else row['index']}  {row['cid']}"), soft_wrap=True)


def _problem(peer: Mapping[str, Any]) -> str:
    if peer.get("forked"):
        return "signed two updates for one slot; one of them counts"
    return str(peer.get("problem") or ("" if peer.get("swarm_match") else "another swarm"))
