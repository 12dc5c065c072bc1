"""`netsim list` and `netsim show`: which scenarios there are, and what is in them."""

from __future__ import annotations

from typing import Any, Literal

import click
import msgspec
import tomlkit
from rich.table import Table
from rich.text import Text

from learnae.cli.common import example
from learnae.cli.tables import screen
from learnae.cli.words import duration
from netsim import scenario
from netsim.cli.common import changeable, scenarios


@click.command(name="list", short_help="The scenarios that come with it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, one line a scenario.")
def list_(as_json: bool) -> None:
    """Say which scenarios there are: what each is for, how many nodes it has, and how much time passes in it.

    A scenario of one's own is given by the path of its file, which ends in .toml.
    """
    table = Table(box=None, pad_edge=False)
    for heading in ("scenario", "nodes", "lasts", "trains", "purpose"):
        justify: Literal["left", "right"] = "right" if heading in ("nodes", "lasts") else "left"
        table.add_column(heading, justify=justify, no_wrap=heading != "purpose")
    for name in scenario.names():
        found = scenario.load(name)
        nodes = sum(group.count for group in found.nodes)
        trains = found.workload.task if found.workload.kind == "images" else found.workload.kind
        if as_json:
            row = {"name": name, "nodes": nodes, "seconds": found.run.seconds, "trains": trains}
            click.echo(msgspec.json.encode(row | {"purpose": found.purpose}).decode())
        else:
            table.add_row(Text(name, "bold"), str(nodes), duration(found.run.seconds), trains, Text(found.purpose))
    if not as_json:
        screen().print(table)


@click.command(short_help="A scenario as it will be run.")
@click.argument("name", metavar="SCENARIO", shell_complete=scenarios)
@changeable
@click.option("--all", "everything", is_flag=True, help="With what the scenario leaves at its default.")
def show(name: str, changes: dict[str, Any], small: bool, everything: bool) -> None:
    """Print a scenario as TOML, with what --set and --small change: a good start for one of your own."""
    loaded = scenario.load(name, changes, small=small)  # So that what is wrong is said here.
    if everything:
        document = tomlkit.item(_without_none(msgspec.to_builtins(loaded))).as_string()
    else:
        parsed = tomlkit.parse(scenario.source(name))
        scenario.change(parsed, changes, small=small)
        document = parsed.as_string()
    click.echo(document.strip())


example(show, "netsim show home-links > mine.toml", "netsim show thousand --small --all")


def _without_none(value: Any) -> Any:
    """TOML has no null: what is not set is not there."""
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner not in (None, {}, ())}
    return [_without_none(inner) for inner in value] if isinstance(value, (list, tuple)) else value
