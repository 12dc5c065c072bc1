"""The demo on the screen: a live table on a terminal, plain lines elsewhere, and the final tables; used by `course`."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import trio
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from learnae.cli.demo.report import Report, same, vectors
from learnae.cli.demo.swarm import Node, Swarm
from learnae.cli.tables import styled_state
from learnae.cli.words import number, percent, short, size

LINE_EVERY = 5.0
"""Seconds between two plain lines."""


class Progress:
    """Shows the nodes while they work."""

    def __init__(self, console: Console, swarm: Swarm) -> None:
        self._console = console
        self._swarm = swarm
        self._started = trio.current_time()
        self._next_line = 0.0
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def update(self, phase: str, force: bool = False) -> None:
        """Show the nodes' last status. Plain lines come every five seconds, or when forced."""
        elapsed = trio.current_time() - self._started
        if self._live:
            self._live.update(_nodes_table(self._swarm.nodes, f"{elapsed:3.0f} s  {phase}"), refresh=True)
        elif force or elapsed >= self._next_line:
            self._next_line = elapsed + LINE_EVERY
            self._console.print(Text(_line(self._swarm.nodes, elapsed, phase)), soft_wrap=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(Text(text), soft_wrap=True)


def _nodes_table(nodes: Sequence[Node], title: str) -> Table:
    table = Table(title=Text(title), title_justify="left", box=None, padding=(0, 1, 0, 0))
    for heading in ("node", "peer", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("round", "loss", "accuracy", "peers", "sent"):
        table.add_column(heading, justify="right", no_wrap=True)
    for node in nodes:
        trainer, network = node.part("trainer"), node.part("network")
        table.add_row(
            str(node.number),
            short(node.status.get("peer")),
            styled_state(node.state),
            str(trainer.get("rounds", "-")),
            number(trainer.get("loss")),
            percent(trainer.get("accuracy")),
            str(network.get("peers", "-")),
            size(network.get("bytes_sent")),
        )
    return table


def _line(nodes: Sequence[Node], elapsed: float, phase: str) -> str:
    def joined(values: Sequence[str]) -> str:
        return " | ".join(values)

    return (
        f"{elapsed:4.0f} s  {phase}: states {joined([node.state for node in nodes])}; "
        f"rounds {joined([str(node.part('trainer').get('rounds', '-')) for node in nodes])}; "
        f"accuracy {joined([percent(node.part('trainer').get('accuracy')) for node in nodes])}; "
        f"peers {joined([str(node.part('network').get('peers', '-')) for node in nodes])}; "
        f"sent {joined([size(node.part('network').get('bytes_sent')) for node in nodes])}"
    )


def show_report(console: Console, report: Report, nodes: Sequence[Node], solo: Sequence[float | None]) -> None:
    """Print the final table and what it means."""
    table = Table(title=Text("Result"), title_justify="left", box=None, padding=(0, 1, 0, 0))
    for heading in ("node", "peer"):
        table.add_column(heading, no_wrap=True)
    for heading in ("rounds", "accuracy", "alone", "sent", "received"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("weights", "versions", "exit"):
        table.add_column(heading, no_wrap=True)
    for node, entry, alone in zip(nodes, report.nodes, solo, strict=True):
        table.add_row(
            str(node.number),
            short(entry.peer),
            str(entry.rounds),
            percent(entry.accuracy),
            percent(alone),
            size(entry.bytes_sent),
            size(entry.bytes_received),
            short(entry.digest),
            short(node.part("ledger").get("vector_digest")),
            str(entry.exit_code),
        )
    console.print()
    console.print(table)
    console.print()
    for line in _sentences(report, nodes):
        console.print(line, soft_wrap=True)


def _sentences(report: Report, nodes: Sequence[Node]) -> list[Text]:
    swarm, solo = report.consensus_accuracy, report.solo_accuracy
    gain = "" if swarm is None or solo is None else f" ({100 * (swarm - solo):+.1f} points)"
    moved = sum(entry.bytes_sent + entry.bytes_received for entry in report.nodes) / len(report.nodes)
    fedavg = report.fedavg_bytes_per_node
    ratio = f", {fedavg / moved:.1f} times as much" if fedavg and moved else ""
    digests = [entry.digest for entry in report.nodes]
    return [
        Text(f"Accuracy   swarm {percent(swarm)}, each shard alone {percent(solo)} in the mean{gain}"),
        Text(f"Traffic    {size(moved)} a node, both ways; full FedAvg averaging: {size(fedavg)}{ratio}"),
        _verdict("Weights    ", same(digests), f"the same on all nodes: {digests[0]}", "DIFFERENT between nodes"),
        _verdict("Versions   ", same(vectors(nodes)), "the same updates on all nodes", "DIFFERENT between nodes"),
        Text(f"Time       {report.seconds:.0f} s"),
    ]


def _verdict(label: str, equal: bool, good: str, bad: str) -> Text:
    return Text.assemble(label, (good, "green") if equal else (bad, "bold red"))
